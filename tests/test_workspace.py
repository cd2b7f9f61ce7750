"""The run folder: nothing is done twice, nothing is lost, and the film is the same however it came about."""

import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest

from storycli import digest, stages
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.media import video
from storycli.workspace import RunFolder


def renders(work: list[str]) -> list[str]:
    return [line for line in work if line.startswith("render")]


@pytest.fixture
def film(run, studio, script, teddy, tmp_path):
    """A finished film of the story; what its making took is forgotten."""
    done = run("render", script, "--llm", "none", "-c", teddy, "-o", "film.mp4")
    assert done.code == 0, done.err
    studio.work()
    return tmp_path / "film.mp4"


def again(run, script, teddy, *more):
    done = run("render", script, "--llm", "none", "-c", teddy, "-o", "film.mp4", *more)
    assert done.code == 0, done.err
    return done


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def wait_for(work: str, studio, process) -> None:
    """Until a piece of work has begun in a process."""
    while work not in (studio.log.read_text() if studio.log.exists() else ""):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_an_unchanged_run_does_no_work_and_leaves_the_film_alone(film, run, studio, script, teddy):
    before = film.stat().st_mtime_ns
    again(run, script, teddy)
    assert studio.work() == []
    assert film.stat().st_mtime_ns == before


def test_a_plot_edited_by_hand_is_the_only_one_rendered_again(film, run, studio, script, teddy):
    before = film.read_bytes()
    edit(
        film.parent / "film.storycli/storyboard.yaml",
        "prompt: A boy walked in the forest.",
        "prompt: A girl ran.",
    )
    again(run, script, teddy)
    assert studio.work() == ["render A girl ran."]
    assert film.read_bytes() != before


def test_an_edited_query_changes_the_clip_of_its_own_plot_only(film, run, studio, script, teddy):
    def references():
        manifest = json.loads((film.parent / "film.storycli/manifest.json").read_text())
        return [shot["reference"]["clip"] for shot in manifest["shots"]]

    assert references() == ["forest", "beach", "kitchen"]
    # the best clip for this query is one that another plot has already: that plot keeps it
    edit(
        film.parent / "film.storycli/storyboard.yaml",
        "query: A boy walked in the forest.",
        "query: a kitchen in a palace",
    )
    again(run, script, teddy)
    assert references()[1:] == ["beach", "kitchen"]
    assert references()[0] == "palace"
    assert len(renders(studio.work())) == 1


def test_a_plot_put_in_between_is_the_only_one_rendered(film, run, studio, script, teddy):
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join([lines[0], "A girl danced in the city.\n", *lines[1:]]))
    again(run, script, teddy)
    assert renders(studio.work()) == ["render A girl danced in the city."]
    assert sorted(p.name for p in film.with_name("film.storycli").glob("0*")) == ["01", "02", "03", "04"]


def test_a_plot_taken_out_renders_nothing_and_takes_its_folder_along(film, run, studio, script, teddy):
    script.write_text("".join(script.read_text().splitlines(keepends=True)[:2]))
    again(run, script, teddy)
    assert renders(studio.work()) == []
    assert sorted(p.name for p in film.with_name("film.storycli").glob("0*")) == ["01", "02"]
    assert video.probe(film).num_frames == 2 * 4


def test_hand_edits_survive_another_script(film, run, studio, script, teddy):
    board = film.parent / "film.storycli/storyboard.yaml"
    edit(board, "prompt: A boy walked in the forest.", "prompt: A girl ran.  # mine")
    script.write_text(script.read_text() + "A cat slept in the garden.\n")
    again(run, script, teddy)
    assert renders(studio.work()) == ["render A girl ran.", "render A cat slept in the garden."]
    assert "prompt: A girl ran.  # mine" in board.read_text()


def test_another_cast_is_told_in_the_plots_and_edits_stay(run, studio, teddy, tmp_path):
    board, script = tmp_path / "film.storycli/storyboard.yaml", tmp_path / "boy.txt"
    script.write_text("A boy walked in the forest.\nThe boy ate in the kitchen.\n")

    def prompts(*cast):
        done = run("render", script, "--llm", "none", *cast)
        assert done.code == 0, done.err
        return re.findall("prompt: (.*)", board.read_text())

    prompts()
    edit(board, "query: The boy ate in the kitchen.", "query: a kitchen in the palace  # mine")
    assert prompts("-c", f"boy={teddy}") == ["A {boy} walked in the forest.", "The {boy} ate in the kitchen."]
    assert prompts() == ["A boy walked in the forest.", "The boy ate in the kitchen."]
    assert "query: a kitchen in the palace  # mine" in board.read_text()


def test_a_character_that_changes_renders_its_own_plots_again(film, run, studio, script, teddy):
    (teddy / "character.safetensors").write_text("better weights")
    again(run, script, teddy)
    assert renders(studio.work()) == ["render {teddy} swam at the beach."]


def test_a_setting_of_the_look_renders_all_plots_again_but_searches_none(film, run, studio, script, teddy):
    again(run, script, teddy, "--steps", "2")
    assert [line.split()[0] for line in studio.work()] == ["render", "render", "render"]


def test_the_device_is_no_reason_to_render_again(film, run, studio, script, teddy):
    again(run, script, teddy, "--device", "cpu")
    assert studio.work() == []


@pytest.mark.parametrize("damage", [b"", b"no video"])
def test_a_damaged_clip_is_made_again(film, run, studio, script, teddy, damage):
    before = film.read_bytes()
    (film.parent / "film.storycli/02/clip.mp4").write_bytes(damage)
    again(run, script, teddy)
    assert studio.work() == ["render {teddy} swam at the beach."]
    assert film.read_bytes() == before
    assert video.probe(film.parent / "film.storycli/02/clip.mp4").num_frames == 4


def test_subtitles_of_an_earlier_cut_go_and_those_of_the_person_stay(film, run, studio, script, teddy):
    beside = film.with_suffix(".srt")
    again(run, script, teddy, "--subtitles", "srt")
    assert beside.exists()
    again(run, script, teddy, "--subtitles", "burn")
    assert not beside.exists()
    beside.write_text("my own")
    again(run, script, teddy)
    assert beside.read_text() == "my own"


def test_a_lost_film_is_put_back_without_work(film, run, studio, script, teddy):
    before = film.read_bytes()
    film.unlink()
    again(run, script, teddy)
    assert studio.work() == []
    assert film.read_bytes() == before


def test_a_film_killed_at_any_moment_is_finished_as_if_it_had_not_been(
    film, start, run, studio, script, teddy, tmp_path
):
    command = ("render", script, "--llm", "none", "-c", teddy, "-o", "killed.mp4")
    folder = tmp_path / "killed.storycli"
    moments = ("search", "render A boy walked", "depth\nrender {teddy}", "render The boy ate")
    for moment in moments:
        process = start(*command, STUDIO_SLOW="0.2")
        wait_for(moment, studio, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "killed.mp4").exists()
    assert list(folder.glob(".kept/tmp-*"))  # the last one was at work
    work = studio.work()
    assert run(*command).code == 0
    # a clip that was finished is not made again: the first plot was rendered once in all
    assert [line for line in work if line.startswith("render A boy")] == ["render A boy walked in the forest."] * 2
    assert renders(studio.work()) == ["render The boy ate in the kitchen."]
    assert (tmp_path / "killed.mp4").read_bytes() == film.read_bytes()
    assert not list(folder.glob(".kept/tmp-*"))


def test_ctrl_c_keeps_the_work_and_exits_with_130(start, run, studio, script, teddy, tmp_path):
    process = start("render", script, "--llm", "none", "-c", teddy, STUDIO_SLOW="0.2")
    wait_for("render {teddy}", studio, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"kept" in err
    assert b"Traceback" not in err
    studio.work()
    assert run("render", script, "--llm", "none", "-c", teddy).code == 0
    assert renders(studio.work()) == [
        "render {teddy} swam at the beach.",
        "render The boy ate in the kitchen.",
    ]


def test_a_second_run_in_the_same_folder_says_so_and_leaves(start, run, studio, script, teddy):
    first = start("render", script, "--llm", "none", "-c", teddy, STUDIO_SLOW="1")
    wait_for("render", studio, first)
    second = run("render", script, "--llm", "none", "-c", teddy)
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert (second.code, second.out) == (1, "")
    assert re.search(r"error: .*film\.storycli: another run is at work", second.err)


def test_a_stage_that_fails_leaves_nothing_behind(tmp_path):
    def stage(number: int, *, into: Path) -> Path:
        (into / "half").write_text("half")
        raise StoryError("no")

    with RunFolder(tmp_path / "film.mp4") as run_folder:
        with pytest.raises(StoryError):
            run_folder.do(stage, 1)
        assert list(run_folder.kept.iterdir()) == []


def test_a_stage_that_begins_again_is_told_as_done_once_and_last(tmp_path):
    def clip(name: str, *, into: Path, report) -> Path:
        for _ in range(2):  # a clip that is taken again
            for done in (1, 2):
                report(done, 2)
        told.append("made")
        (into / "clip").write_text(name)
        return into / "clip"

    told = []
    with RunFolder(tmp_path / "film.mp4", report=lambda *work: told.append(work)) as run:
        run.do(clip, "one", at="01")
    half = ("clip", "01", 1, 2)
    assert told == [("clip", "01", 0, 1), half, half, "made", ("clip", "01", 1, 1)]


def test_work_is_known_by_its_inputs_and_not_by_how_it_was_done(tmp_path):
    calls = []

    def stage(text: str, number: float, *, into: Path, device: str = "cpu") -> Path:
        calls.append((text, number, device))
        (into / "made.txt").write_text(f"{text} {number}")
        return into / "made.txt"

    with RunFolder(tmp_path / "film.mp4") as run_folder:
        first = run_folder.do(stage, "a", 1.0, device="cpu")
        assert run_folder.do(stage, "a", 1.0, device="cuda") == first
        assert run_folder.do(stage, "a", 2.0).read_text() == "a 2.0"
    assert calls == [("a", 1.0, "cpu"), ("a", 2.0, "cpu")]


def test_threads_that_need_the_same_work_do_it_once(tmp_path):
    both, calls = threading.Barrier(2), []

    def stage(number: int, *, into: Path) -> Path:
        calls.append(number)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # until the other one is at work here as well
        (into / "made.txt").write_text("made")
        return into / "made.txt"

    with RunFolder(tmp_path / "film.mp4") as run_folder, ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda at: run_folder.do(stage, 1, at=at), ["01", "02"])
        assert one == two
        assert calls == [1]
        assert (run_folder.folder / "01/made.txt").read_text() == (run_folder.folder / "02/made.txt").read_text()


def test_a_file_counts_by_its_content(tmp_path):
    calls = []

    def stage(source: Path, *, into: Path) -> str:
        calls.append(source.read_text())
        return source.read_text()

    with RunFolder(tmp_path / "film.mp4") as run_folder:
        for name, text in (("a", "one"), ("b", "one"), ("a", "two")):
            (tmp_path / name).write_text(text)
            assert run_folder.do(stage, tmp_path / name) == text
    assert calls == ["one", "two"]


def test_a_reference_that_was_renamed_is_read_where_it_lies_now(film, run, studio, tmp_path):
    board = tmp_path / "story.yaml"
    own = (studio.folder / "palace.mp4").rename(tmp_path / "one.mp4")
    told = "version: 1\ntitle: T\nplots:\n  - {text: a, query: a, prompt: a, reference: %s}\n"
    for name in ("one.mp4", "other.mp4"):
        board.write_text(told % (own := own.rename(tmp_path / name)))
        assert run("render", board, "-o", "own.mp4", "--size", "64x64" if name == "one.mp4" else "80x64").code == 0
    shots = json.loads((tmp_path / "own.storycli/manifest.json").read_text())["shots"]
    assert [shot["reference"]["path"] for shot in shots] == ["other.mp4"]


def test_the_lock_is_free_again_after_the_run(tmp_path):
    with RunFolder(tmp_path / "film.mp4"):
        failed = []

        def second():
            try:
                RunFolder(tmp_path / "film.mp4").__enter__()
            except StoryError as error:
                failed.append(error.message)

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert "another run is at work" in failed[0]
    with RunFolder(tmp_path / "film.mp4"):
        pass


def test_the_manifest_tells_what_the_film_was_made_of(film):
    folder = film.with_name("film.storycli")
    told = json.loads((folder / "manifest.json").read_text())
    assert told["story"]["plots"][0]["text"] == "A boy walked in the forest."
    assert told["settings"] == Settings(model="storybook", llm="none").model_dump()  # those that are as ever, too
    assert told["model"].keys() == {"name", "sha256"}
    assert [shot["take"]["steps"] for shot in told["shots"]] == [3, 3, 3]
    assert len({shot["take"]["seed"] for shot in told["shots"]}) == 3
    assert told["shots"][0]["reference"]["source"] == "studio"
    clips = [stage for stage in told["stages"] if stage["stage"] == "render"]
    assert [stage["at"] for stage in clips] == ["01", "02", "03"]
    for stage in clips:
        assert stage["files"]["clip.mp4"] == digest.file(folder / stage["at"] / "clip.mp4")
        assert re.fullmatch("[0-9a-f]{64}", stage["key"])
        assert stage["seconds"] >= 0
    assert {"python", "system", "cores", "packages"} == told["environment"].keys()
    assert "boy" not in json.dumps(told["environment"])


def test_the_film_carries_its_recipe_and_again_makes_the_same_film(film, run, studio, tmp_path):
    before = film.read_bytes()
    done = run("again", film, "-o", "other.mp4")
    assert done.code == 0, done.err
    assert (tmp_path / "other.mp4").read_bytes() == before
    assert len(renders(studio.work())) == 3


def test_again_takes_nothing_but_flags_into_the_film_s_own_settings(film, run, studio, tmp_path):
    before = film.read_bytes()
    (tmp_path / "storycli.toml").write_text("steps = 2\nguidance = 7\n")
    assert run("again", film, "-o", "same.mp4").code == 0
    assert (tmp_path / "same.mp4").read_bytes() == before
    assert run("again", film, "-o", "other.mp4", "--steps", "4").code == 0
    told = json.loads((tmp_path / "other.storycli/manifest.json").read_text())
    assert told["settings"] == Settings(model="storybook", steps=4, llm="none").model_dump()


def test_again_keeps_to_the_library_and_the_model_of_the_film(film, run, studio, monkeypatch):
    opened = []
    library = stages.open_library
    monkeypatch.setattr(stages, "open_library", lambda folder: opened.append(folder) or library(folder))
    monkeypatch.setattr("storycli.config.library_folder", lambda *_, **__: Path("indexed since"))
    assert run("again", film, "--choose", "2=3", "-o", "other.mp4").code == 0
    assert set(opened) == {None}
    told = json.loads(film.with_name("other.storycli").joinpath("manifest.json").read_text())
    assert told["built_in_clips"] and told["settings"]["model"] == "storybook"


def test_again_keeps_the_edits_of_a_storyboard_that_are_not_in_the_film(film, run, studio):
    folder = film.with_name("film.storycli")
    board = folder / "storyboard.yaml"
    edit(board, "prompt: A boy walked in the forest.", "prompt: A girl ran.  # mine")
    edited, before = board.read_text(), film.read_bytes()
    done = run("again", film)
    assert (done.code, film.read_bytes()) == (0, before)
    assert (folder / "storyboard.before.yaml").read_text() == edited
    assert "edited by hand" in done.err and "storyboard.before.yaml" in done.err


def test_again_leaves_a_storyboard_that_says_the_same_as_it_is(film, run, studio, script, teddy):
    folder = film.with_name("film.storycli")
    edit(folder / "storyboard.yaml", "prompt: A boy walked in the forest.", "prompt: A girl ran.  # mine")
    again(run, script, teddy)
    edited = (folder / "storyboard.yaml").read_text()
    assert run("again", film).code == 0
    assert (folder / "storyboard.yaml").read_text() == edited
    assert not (folder / "storyboard.before.yaml").exists()
    again(run, script, teddy)  # and nor is it told anew by the next run
    assert (folder / "storyboard.yaml").read_text() == edited


def test_a_title_that_was_edited_stays_when_the_story_grows(film, run, script, teddy):
    board = film.with_name("film.storycli") / "storyboard.yaml"
    edit(board, re.search("title: .*", board.read_text())[0], "title: Mine")
    script.write_text(script.read_text() + "The boy slept.\n")
    again(run, script, teddy)
    assert "title: Mine" in board.read_text() and "The boy slept" in board.read_text()


def test_a_storyboard_that_was_deleted_comes_back_whole(film, run, script, teddy):
    board = film.with_name("film.storycli") / "storyboard.yaml"
    before = board.read_text()
    board.unlink()
    again(run, script, teddy)
    assert board.read_text() == before


def test_a_storyboard_of_one_s_own_replaces_the_unedited_one_without_a_word(run, studio, script, tmp_path):
    script.write_text("A boy walked in the forest.\n")
    assert run("plan", script, "--llm", "none").code == 0
    assert run("render", "story.yaml", "-q").code == 0
    edit(tmp_path / "story.yaml", "prompt: A boy", "prompt: A girl")
    done = run("render", "story.yaml", "-q")
    assert (done.code, done.err) == (0, "")
    assert "prompt: A girl" in (tmp_path / "film.storycli/storyboard.yaml").read_text()
    assert not (tmp_path / "film.storycli/storyboard.before.yaml").exists()


def test_no_key_and_no_absolute_path_is_in_film_or_manifest(run, studio, script, teddy, tmp_path, monkeypatch):
    key = "sk-secret-of-the-tests"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    done = run("render", script, "--llm", "none", "-c", teddy, "-v")
    assert done.code == 0, done.err
    manifest = (tmp_path / "film.storycli/manifest.json").read_text()
    recipe = manifest[: manifest.index('"stages"')]
    assert key not in manifest + done.err + done.out
    assert str(tmp_path) not in recipe
    assert key.encode() not in (tmp_path / "film.mp4").read_bytes()


def test_the_contact_sheet_shows_files_that_are_there_and_escapes_what_people_wrote(run, studio, teddy, tmp_path):
    (tmp_path / "evil.txt").write_text("<script>alert(1)</script> walked in the forest & back.\n")
    assert run("render", "evil.txt", "--llm", "none", "-o", "a film's #1.mp4").code == 0
    folder = tmp_path / "a film's #1.storycli"
    page = (folder / "index.html").read_text()
    assert page.count("<script") == 1  # its own
    assert "&lt;script&gt;alert(1)&lt;/script&gt; walked in the forest &amp; back." in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    links = re.findall(r'src="([^"]+)"', page)
    assert len(links) >= 1 + 3 + 5
    for link in links:
        assert (folder / unquote(link)).is_file(), link
