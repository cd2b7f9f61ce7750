import errno
import os
import subprocess
import sys
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import library
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from models.text import mean_pool
from models.weights import load_minilm
from storycli import retrieve, stages
from storycli.errors import StoryError
from storycli.library import indexing, shipped, shots, sources
from storycli.library.encoder import Encoder
from storycli.library.index import COMPARED
from storycli.library.indexing import Update, content_digest
from storycli.library.sentences import minilm
from storycli.library.sources import Failure, Source, find
from storycli.media import video
from storycli.retrieve import Filters, Library, flaws


@pytest.fixture
def folder(tmp_path):
    """Five clips, two of them in a folder of their own."""
    for name in ("dog_running.mp4", "sea-waves.mp4", "IMG_0001.mp4", "more/red car.mp4", "more/CityStreet.mp4"):
        library.clip(tmp_path / "videos" / name)
    return tmp_path / "videos"


def names(candidates):
    return [candidate.clip.path.name for candidate in candidates]


def nothing_is_decoded(monkeypatch):
    """From here on."""
    monkeypatch.setattr(shots, "find_shots", lambda path: pytest.fail("decoded again"))


# ---- indexing ------------------------------------------------------------------------------------------------


def test_a_folder_is_indexed_once(empty, folder):
    first = empty.add([folder])
    before = library.content(empty)
    second = empty.add([folder])
    assert (first.added, first.shots, first.failures) == (5, 5, ())
    assert (second.added, second.unchanged) == (0, 5)
    assert library.content(empty) == before


def test_rows_say_where_the_shot_is_and_how_it_moves(empty, tmp_path):
    path = library.clip(tmp_path / "a.mp4", frames=24, size=(96, 48))
    empty.add([path])
    (row,) = empty.index.rows(["path", "start", "end", "fps", "width", "height", "seconds", "motion", "shake"])
    assert row["path"] == str(path)
    assert (row["start"], row["end"], row["fps"], row["width"], row["height"]) == (0, 24, 12, 96, 48)
    assert row["seconds"] == pytest.approx(2)
    assert row["motion"] == pytest.approx(2 / 96 * 12, rel=0.5)  # two pixels of 96 a frame, 12 frames a second
    assert row["shake"] < 0.05


def test_a_moved_file_is_recognised_and_not_decoded_again(empty, folder, monkeypatch):
    empty.add([folder])
    before = {row["id"]: row["visual"] for row in empty.index.rows(["id", "visual"])}
    (folder / "sea-waves.mp4").rename(folder / "more" / "ocean.mp4")
    nothing_is_decoded(monkeypatch)
    report = empty.add([folder])
    assert (report.moved, report.added, report.unchanged) == (1, 0, 4)
    assert {row["id"]: row["visual"] for row in empty.index.rows(["id", "visual"])} == before
    assert names(empty.search("ocean"))[0] == "ocean.mp4"


def test_a_file_that_goes_while_its_twin_is_read_hands_on_all_its_shots(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "WRITE_EVERY", 3600)
    gone, twin = tmp_path / "v" / "a.mp4", tmp_path / "v" / "b.mp4"
    gone.parent.mkdir()
    video.write(gone, np.concatenate([library.moving(1), 255 - library.moving(2)]), 12)
    twin.write_bytes(gone.read_bytes())
    report = empty.add([gone.parent], progress=lambda done, *_: gone.unlink(missing_ok=True))
    assert (report.shots, report.moved) == (2, 1)
    assert [row["path"] for row in empty.index.rows(["path"])] == [str(twin)] * 2


def test_two_files_that_swap_their_names_keep_their_shots(empty, folder):
    empty.add([folder])
    shots = {row["path"]: row["id"] for row in empty.index.rows(["path", "id"])}
    dog, sea, other = folder / "dog_running.mp4", folder / "sea-waves.mp4", folder / "other"
    dog.rename(other), sea.rename(dog), other.rename(sea)
    report = empty.add([folder])
    assert (report.moved, report.removed) == (2, 0)
    swapped = {row["path"]: row["id"] for row in empty.index.rows(["path", "id"])}
    assert swapped == shots | {str(dog): shots[str(sea)], str(sea): shots[str(dog)]}


def test_a_changed_file_is_replaced(empty, folder):
    empty.add([folder])
    (before,) = (r["id"] for r in empty.index.rows(["id", "path"]) if r["path"].endswith("dog_running.mp4"))
    library.clip(folder / "dog_running.mp4", seed=99)
    report = empty.add([folder])
    assert (report.added, report.removed, len(empty.index)) == (1, 1, 5)
    (after,) = (r["id"] for r in empty.index.rows(["id", "path"]) if r["path"].endswith("dog_running.mp4"))
    assert after != before


def test_a_touched_file_is_not_decoded_again(empty, folder, monkeypatch):
    empty.add([folder])
    os.utime(folder / "dog_running.mp4", (1, 1))
    nothing_is_decoded(monkeypatch)
    assert empty.add([folder]).unchanged == 5


def test_the_same_content_under_two_names_is_one_clip(empty, tmp_path):
    library.clip(tmp_path / "a.mp4", seed=1), library.clip(tmp_path / "b.mp4", seed=1)
    report = empty.add([tmp_path])
    assert (report.added, report.duplicates, len(empty.index)) == (1, 1, 1)


def test_deleted_files_stay_until_they_are_pruned(empty, folder):
    empty.add([folder])
    (folder / "sea-waves.mp4").unlink()
    empty.add([folder])
    assert empty.status().missing == (folder / "sea-waves.mp4",)
    assert empty.prune() == (folder / "sea-waves.mp4",)
    assert (empty.status().files, empty.status().missing) == (4, ())


def test_a_library_whose_clips_are_all_pruned_is_as_new(empty, folder, tmp_path):
    empty.add([library.clip(tmp_path / "a.mp4")])
    (tmp_path / "a.mp4").unlink()
    empty.prune()
    assert not list(empty.folder.glob("*.lance")) and not empty.status().files
    assert empty.add([folder]).added == 5


def test_status_counts(empty, folder, tmp_path):
    (tmp_path / "t.csv").write_text("path,caption\nvideos/dog_running.mp4,a dog\n")
    empty.add([folder, tmp_path / "t.csv"])
    empty.add([tmp_path / "t.csv"])
    status = empty.status()
    assert (status.files, status.shots, status.captioned, status.encoder) == (5, 5, 1, "tiny")
    assert status.seconds == pytest.approx(5)


def test_a_table_gives_captions_sources_and_licences(empty, folder, tmp_path):
    table = tmp_path / "clips.csv"
    table.write_text('path,caption,licence\nvideos/IMG_0001.mp4,"a panda, dancing",CC0\n')
    empty.add([table])
    (found,) = empty.search("panda")
    assert (found.clip.caption, found.clip.licence, found.clip.source) == ("a panda, dancing", "CC0", "")


def test_a_new_caption_changes_the_clip_without_decoding_it(empty, folder, tmp_path, monkeypatch):
    empty.add([folder])
    table = tmp_path / "clips.csv"
    table.write_text("path,caption,source\nvideos/IMG_0001.mp4,a rocket takes off,NASA\n")
    nothing_is_decoded(monkeypatch)
    assert empty.add([table]).retold == 1
    best = empty.search("a rocket")[0].clip
    assert (best.path.name, best.caption, best.source) == ("IMG_0001.mp4", "a rocket takes off", "NASA")
    empty.add([folder])  # which tells nothing, and so takes nothing back
    assert empty.search("a rocket")[0].clip.caption == "a rocket takes off"


def test_a_text_file_beside_a_video_is_its_caption(tmp_path):
    path = library.clip(tmp_path / "x.mp4")
    (tmp_path / "x.txt").write_text("two owls\n  at night\n")
    (found,) = find([tmp_path])
    assert (found.path, found.told.caption) == (path, "two owls at night")


def test_an_index_answers_only_to_the_weights_that_made_it(empty, folder, tmp_path):
    empty.add([folder])
    other = Library(empty.folder, library.encoder(tmp_path / "other.safetensors", seed=1))
    with pytest.raises(StoryError, match="other retrieval weights"):
        other.search("a dog")


def test_one_run_at_a_time_writes(empty, folder):
    with empty.index.writing(), pytest.raises(StoryError, match="another run"):
        Library(empty.folder, empty.encoder.path).add([folder])


def test_the_built_in_library_takes_no_clips(empty, folder):
    empty.built_in = True
    with pytest.raises(StoryError, match="library of their own"):
        empty.add([folder])


def test_an_interrupted_run_keeps_its_work(empty, folder, monkeypatch):
    def interrupt(done, total, path):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty.add([folder], progress=interrupt)
    assert len(Library(empty.folder, empty.encoder.path).index) == 3


KILLED = """
import os, signal, sys, time
from pathlib import Path
from storycli.library import indexing
from storycli.retrieve import Library
indexing.WRITE_EVERY = 0
kill_at = int(sys.argv[4])
writes = 0
def deadly(method):
    def write(self, *args):
        global writes
        writes += 1
        if writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        method(self, *args)
        if writes == -kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return write
for name in ("insert", "remove", "tidy"):
    setattr(indexing.Index, name, deadly(getattr(indexing.Index, name)))
Library(Path(sys.argv[1]), Path(sys.argv[2])).add([Path(sys.argv[3])])
"""


@pytest.mark.parametrize("kill_at", [4, -6])
def test_a_killed_run_goes_on_to_the_same_index(empty, folder, tmp_path, encoder, kill_at):
    """Killed before the fourth write, or after the last one and before it was tidied up."""
    whole = Library(tmp_path / "whole", encoder)
    whole.add([folder])
    command = [sys.executable, "-c", KILLED, str(empty.folder), str(encoder), str(folder), str(kill_at)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    assert subprocess.run(command, env=environment).returncode == -9
    resumed = Library(empty.folder, encoder)
    kept = len(resumed.index)
    report = resumed.add([folder])
    assert kept + report.added == 5
    assert library.content(resumed) == library.content(whole)


def test_a_run_killed_while_it_replaced_a_file_leaves_no_trace_of_the_old_one(empty, folder, monkeypatch):
    empty.add([folder])
    library.clip(folder / "dog_running.mp4", seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(Update, "remove_stale", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            empty.add([folder])
    assert len(empty.index) == 6
    empty.add([folder])
    assert len(empty.index) == 5


# ---- searching -----------------------------------------------------------------------------------------------


def test_file_names_are_found(empty, folder):
    empty.add([folder])
    assert names(empty.search("waves", 1)) == ["sea-waves.mp4"]
    assert names(empty.search("cars", 1)) == ["red car.mp4"]
    assert names(empty.search("the streets of a city", 1)) == ["CityStreet.mp4"]


def test_what_a_name_says():
    said = {"IMG_2041-bigWaves.mp4": "big waves", "DSC0012.mov": "", "a b.mp4": "", "Hund_läuft(2).mp4": "hund läuft"}
    assert {name: sources.name_words(Path(name)) for name in said} == said


def test_no_more_than_k_clips_best_first(empty, folder):
    empty.add([folder])
    found = empty.search("a dog", 3)
    assert len(found) == 3
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    assert len(empty.search("a dog", 50)) == 5


def test_scores_are_the_stated_mix(empty, folder, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,caption\nvideos/dog_running.mp4,the dogs run on a beach\n")
    empty.add([table])
    (found,) = empty.search("a dog on the moon")
    (row,) = empty.index.rows(["visual", "motion", "shake"])
    picture = np.dot(np.float32(row["visual"]), empty.encoder.embed_text(["a dog on the moon"])[0])
    caption = np.dot(*minilm().embed(["a dog on the moon", "the dogs run on a beach"]))
    flaw = 0.05 * max(0, 1 - row["motion"] / 0.03) + 0.05 * min(1, row["shake"] / 0.3)
    words = 0.5  # of "dog" and "moon" the first is there
    assert found.score == pytest.approx(0.3 * picture + 0.4 * caption + 0.3 * words - flaw, abs=2e-3)


def test_what_happens_in_a_clip_counts_more_than_who_does_it():
    said = ["a wizard dancing on the beach", "an owl sitting on the beach"]
    alike = np.float16([[1, 0]] * 2)
    clips = pa.table({"words": said, "visual": alike.tolist(), "said": alike.tolist()})
    scores = retrieve.similarity(clips, "a wizard sitting on the beach", alike[0], alike[0])
    assert scores == pytest.approx([0.7 + 0.3 * 2 / 5, 0.7 + 0.3 * 4 / 5], abs=1e-3)


def test_a_still_clip_loses_to_a_moving_one(empty, tmp_path):
    library.clip(tmp_path / "v" / "dog.mp4", seed=1)
    video.write(tmp_path / "v" / "dogs.mp4", library.moving(2)[[0] * 12], 12)
    empty.add([tmp_path / "v"])
    moving, still = empty.search("dog")
    assert (moving.clip.path.name, still.clip.path.name) == ("dog.mp4", "dogs.mp4")


def test_a_clip_of_the_asked_length_is_preferred(empty, tmp_path):
    library.clip(tmp_path / "v" / "dog.mp4", seed=1, frames=8)
    library.clip(tmp_path / "v" / "dogs.mp4", seed=3, frames=36)
    empty.add([tmp_path / "v"])
    score = {c.clip.path.name: c.score for c in empty.search("dog")}
    asked = {c.clip.path.name: c.score for c in empty.search("dog", seconds=2)}
    assert asked["dogs.mp4"] == pytest.approx(score["dogs.mp4"])
    assert asked["dog.mp4"] == pytest.approx(score["dog.mp4"] - 0.1 * (1 - 8 / 12 / 2))


def test_a_shaken_clip_loses_to_a_steady_one(empty, tmp_path):
    library.clip(tmp_path / "v" / "dog.mp4", seed=1)
    shaken = library.moving(2, frames=2)[[0, 1] * 6]
    video.write(tmp_path / "v" / "dogs.mp4", np.stack([np.roll(f, 6 * (i % 2), 1) for i, f in enumerate(shaken)]), 12)
    empty.add([tmp_path / "v"])
    rows = {Path(row["path"]).name: row for row in empty.index.rows(["path", "motion", "shake"])}
    assert min(row["motion"] for row in rows.values()) > 0.03  # both move enough
    assert rows["dogs.mp4"]["shake"] > 10 * rows["dog.mp4"]["shake"]
    lost = flaws_of(empty)
    assert lost["dogs.mp4"] - lost["dog.mp4"] == pytest.approx(
        0.05 / 0.3 * (rows["dogs.mp4"]["shake"] - rows["dog.mp4"]["shake"]), rel=1e-3
    )


def flaws_of(found):
    """What each clip of a library loses."""
    numbers = list(found.index.nearest("visual", np.ones(8, np.float32), 100))
    table = found.index.take(numbers, COMPARED)
    return {Path(path).name: lost for path, lost in zip(table["path"].to_pylist(), flaws(table, None), strict=True)}


def test_a_plot_asks_for_clips_of_its_length(monkeypatch, tmp_path):
    asked = []

    class Shelf:
        def search(self, query, k, *, seconds):
            asked.append((query, k, seconds))
            return []

    monkeypatch.setattr(stages, "open_library", lambda folder: Shelf())
    assert stages.retrieve("a dog", None, stages.ClipLibrary(None), 5, 2.5, into=tmp_path) == ()
    assert asked == [("a dog", 5, 2.5)]


def test_filters(empty, tmp_path):
    library.clip(tmp_path / "a'b" / "tall.mp4", size=(48, 64))
    library.clip(tmp_path / "a'b" / "wide.mp4", size=(64, 48))
    library.clip(tmp_path / "a'b2" / "long.mp4", size=(48, 48), frames=30)
    empty.add([tmp_path / "a'b", tmp_path / "a'b2"])

    def found(**conditions):
        return sorted(names(empty.search("a clip", filters=Filters(**conditions))))

    assert found(orientation="portrait") == ["tall.mp4"]
    assert found(orientation="landscape") == ["wide.mp4"]
    assert found(orientation="square") == found(min_seconds=2) == ["long.mp4"]
    assert found(under=tmp_path / "a'b") == ["tall.mp4", "wide.mp4"]
    assert found(under=tmp_path / "nowhere") == []


@pytest.mark.parametrize("under", ["../v/in", "./../v/./in", "..", "/"])
def test_a_folder_to_search_in_may_be_named_in_any_way(empty, tmp_path, monkeypatch, under):
    library.clip(tmp_path / "v" / "in" / "dog.mp4")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    empty.add([tmp_path / "v"])
    assert names(empty.search("a dog", filters=Filters(under=Path(under)))) == ["dog.mp4"]


def test_the_same_look_comes_once(empty, tmp_path):
    frames = library.moving(1, frames=12)
    video.write(tmp_path / "v" / "dog.mp4", frames, 12)
    video.write(tmp_path / "v" / "dog again.mp4", frames, 12, crf=18)
    empty.add([tmp_path / "v"])
    assert len(empty.index) == 2
    assert len(empty.search("dog")) == 1


def test_an_empty_library_says_what_to_do(empty):
    with pytest.raises(StoryError, match="no clips") as error:
        empty.search("a dog")
    assert "storycli index" in error.value.hint


@pytest.mark.parametrize("query", ["", "!!! ???", "'; DROP TABLE", '"unclosed', "a AND (b OR", "\u72ac", "x" * 5000])
def test_any_query_is_answered(empty, folder, query):
    empty.add([folder])
    assert len(empty.search(query)) == 5


def test_a_search_needs_no_torch(empty, folder):
    empty.add([folder])
    code = (
        "import sys; from pathlib import Path; from storycli.retrieve import Library\n"
        "print(Library(Path(sys.argv[1]), Path(sys.argv[2])).search('waves')[0].clip.path.name)\n"
        "print(sorted({'torch', 'transformers', 'decord', 'cv2', 'scipy', 'av'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(empty.folder), str(empty.encoder.path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split("\n")[:2] == ["sea-waves.mp4", "[]"]


def test_sentences_are_those_of_minilm():
    said = ["a dog on the beach", "Caf\u00e9 na\u00efve \u72ac!", "", "the panda is dancing, " * 3]
    text = load_minilm()
    ids, mask = text.tokenize(said)
    with torch.no_grad():
        expected = mean_pool(text.encode(ids, mask), mask).numpy()
    np.testing.assert_allclose(minilm().embed(said), expected, atol=2e-6)


# ---- what is found -------------------------------------------------------------------------------------------


def test_links_that_lead_back_are_not_followed(tmp_path):
    library.clip(tmp_path / "a" / "x.mp4")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [source.path for source in find([tmp_path / "a"])] == [tmp_path / "a" / "x.mp4"]


@pytest.mark.parametrize("fault", [errno.EACCES, errno.ENOTCONN, errno.ESTALE])
def test_what_cannot_be_looked_at_is_listed_and_the_rest_is_found(tmp_path, monkeypatch, fault):
    """As it is with links in a folder that may be read but not searched, and with a mount whose server is gone."""
    path = library.clip(tmp_path / "good.mp4")
    (tmp_path / "away").symlink_to(tmp_path)
    stat = os.stat

    def broken(entry, **how):
        if "away" in str(entry):
            raise OSError(fault, os.strerror(fault))
        return stat(entry, **how)

    class Entry:
        def __init__(self, name):
            self.name = name

        def is_dir(self):
            return S_ISDIR(broken(tmp_path / self.name).st_mode)

        def is_file(self):
            return S_ISREG(broken(tmp_path / self.name).st_mode)

    monkeypatch.setattr(os, "stat", broken)
    monkeypatch.setattr(os, "scandir", lambda folder: [Entry(name) for name in os.listdir(folder)])
    away = Failure(tmp_path / "away", f"{tmp_path / 'away'} cannot be read: {os.strerror(fault)}")
    assert list(find([tmp_path])) == [away, Source(path)]


def test_a_path_given_twice_comes_once(tmp_path):
    path = library.clip(tmp_path / "x.mp4")
    assert list(find([tmp_path, path, tmp_path / "." / "x.mp4"])) == [Source(path)]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(b"", "no column"), (b"file,caption\nx.mp4,a\n", "no column"), (b"path\n\xff\xfe\n", "cannot be read")],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, wrong):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(StoryError, match=wrong):
        list(find([tmp_path / "t.csv"]))


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StoryError, match="does not exist"):
        list(find([tmp_path / "nothing"]))


def test_a_row_of_a_table_without_its_file_is_listed(empty, folder, tmp_path):
    (tmp_path / "t.csv").write_text("path,caption\nvideos/IMG_0001.mp4,a\ngone.mp4,b\n")
    report = empty.add([tmp_path / "t.csv"])
    assert (report.added, report.failures) == (
        1,
        (Failure(tmp_path / "gone.mp4", f"{tmp_path / 'gone.mp4'} does not exist"),),
    )


# ---- the clips that ship -------------------------------------------------------------------------------------


def test_a_packed_index_is_unpacked_without_decoding(empty, folder, tmp_path, monkeypatch):
    table, packed = tmp_path / "clips.csv", tmp_path / "clips.parquet"
    table.write_text("path,caption,licence\nvideos/dog_running.mp4,a dog runs,MIT\nvideos/IMG_0001.mp4,an owl,MIT\n")
    shipped.pack(empty.encoder, table, packed)
    nothing_is_decoded(monkeypatch)
    shipped.unpack(empty.index, table, packed)
    assert empty.add([table]).unchanged == 2
    (best, _) = empty.search("an owl")
    assert (best.clip.path, best.clip.licence) == (folder / "IMG_0001.mp4", "MIT")


def test_a_packed_index_of_other_weights_is_not_used(empty, folder, tmp_path):
    table, packed = tmp_path / "clips.csv", tmp_path / "clips.parquet"
    table.write_text("path\nvideos/dog_running.mp4\n")
    shipped.pack(Encoder(library.encoder(tmp_path / "other.safetensors", seed=1)), table, packed)
    shipped.unpack(empty.index, table, packed)
    assert len(empty.index) == 0
    assert empty.add([table]).added == 1


def test_the_packed_index_is_that_of_the_shipped_clips_and_weights():
    """``python -m storycli.library.shipped`` is due when this fails."""
    packed = pyarrow.parquet.read_table(shipped.PACKED)
    assert packed.schema.metadata[b"digest"].decode() == Encoder().digest
    told = {str(source.path): source.told.caption for source in find([shipped.CLIPS])}
    rows = packed.select(["path", "caption", "digest"]).to_pylist()
    assert {str(shipped.CLIPS.parent / row["path"]): row["caption"] for row in rows} == told
    assert all(content_digest(shipped.CLIPS.parent / row["path"]) == row["digest"] for row in rows)
