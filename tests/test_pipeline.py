"""The walk: which stage gets what, in which order, and what a plot may decide for itself."""

import dataclasses
import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import FileLock
from studio import MODEL, PLACES

from storycli import catalogue, company, manifest, pipeline, plots, stages
from storycli.config import Settings
from storycli.errors import StoryError
from storycli.media import video
from storycli.story import Candidate, Character, Clip, Plot, Story


@pytest.fixture
def walk(studio, tmp_path):
    """Take the steps of a film at once, each in its own folder; ``walk.steps`` lists them."""

    def do(stage, *inputs, at="", **how):
        do.steps.append((at, stage.__name__))
        into = tmp_path / f"step-{len(do.steps)}"
        into.mkdir()
        takes = inspect.signature(stage).parameters
        offers = {"into": into, "report": lambda *_: None} | how
        return stage(*inputs, **{name: value for name, value in offers.items() if name in takes})

    do.steps = []
    return do


def plot(text: str, **wishes) -> Plot:
    return Plot(text=text, query=wishes.pop("query", text), prompt=wishes.pop("prompt", text), **wishes)


def story(*plots: Plot, characters=()) -> Story:
    return Story(title="A story", plots=plots, characters=characters)


def clip(name: str) -> Clip:
    return Clip(id=name, path=f"{name}.mp4", start=0, end=4, fps=8, width=64, height=64)


def candidates(*names: str) -> list[Candidate]:
    return [Candidate(clip=clip(name), score=1 - n / 10) for n, name in enumerate(names)]


def test_the_walk_takes_the_steps_of_the_method_in_their_order(walk):
    pipeline.render(story(plot("in the forest"), plot("at the beach")), Settings(), walk)
    assert walk.steps == [
        ("01", "retrieve"),
        ("02", "retrieve"),
        ("01", "depth"),
        ("01", "render"),
        ("02", "depth"),
        ("02", "render"),
        ("", "concat"),
    ]


def test_the_film_is_its_clips_one_after_the_other(walk):
    film = pipeline.render(story(plot("in the forest"), plot("at the beach")), Settings(), walk)
    clips = np.concatenate([video.read(shot.video) for shot in film.shots])
    np.testing.assert_array_equal(video.read(film.video), clips)


def test_the_depth_that_renders_a_plot_is_that_of_its_clip(walk, studio):
    film = pipeline.render(story(plot("in the garden")), Settings(), walk)
    frames = video.read(studio.folder / "garden.mp4").mean(axis=-1) / 255
    np.testing.assert_allclose(np.load(film.shots[0].depth), frames, atol=1 / 255)


def test_each_plot_gets_the_clip_that_fits_it_and_none_comes_twice(walk):
    film = pipeline.render(story(plot("the beach"), plot("a beach"), plot("in the city")), Settings(), walk)
    taken = [shot.reference.id for shot in film.shots]
    assert taken[2] == "city"
    assert len(set(taken)) == 3
    assert "beach" in taken


def test_a_plot_may_name_its_candidate_even_one_that_another_plot_has():
    found = [candidates("a", "b"), candidates("a", "b")]
    plots = [plot("one", candidate=2), plot("two", candidate=2)]
    assert [clip.id for clip in stages.choose(plots, found, {})] == ["b", "b"]


def test_a_candidate_that_was_not_found_is_an_error_that_names_the_plot():
    with pytest.raises(StoryError, match="plot 2 asks for candidate 3, but 2 clips were found"):
        stages.choose([plot("one"), plot("two", candidate=3)], [candidates("a"), candidates("a", "b")], {})


def test_a_plot_keeps_the_clip_of_an_earlier_cut_while_its_candidates_are_the_same():
    found = [candidates("a", "b"), candidates("a", "b", "c")]
    kept = stages.choose([plot("one"), plot("two")], found, {("a", "b", "c"): ["a"]})
    assert [clip.id for clip in kept] == ["b", "a"]


def test_plots_with_the_same_candidates_keep_each_its_own():
    """A story may say the same thing twice; filmed again, it is the same film."""
    plots, found = [plot("one"), plot("two", candidate=3), plot("one")], [candidates("a", "b", "c")] * 3
    first = [clip.id for clip in stages.choose(plots, found, {})]
    assert first[1] == "c" and len(set(first)) == 3
    earlier = manifest.choices(taken(plots, first[::-1]))
    again = stages.choose(plots, found, earlier)
    assert [clip.id for clip in again] == [first[2], "c", first[0]]


def test_a_candidate_that_is_no_longer_asked_for_is_no_longer_taken():
    earlier = manifest.choices(taken([plot("one", candidate=3), plot("two")], ["c", "b"]))
    kept = stages.choose([plot("one"), plot("two")], [candidates("a", "b", "c")] * 2, earlier)
    assert [clip.id for clip in kept] == ["a", "b"]


def taken(plots, clips):
    """What a manifest tells of a film whose plots took some of the clips a, b and c."""
    shots = [{"candidates": [{"clip": name} for name in "abc"], "reference": {"clip": clip}} for clip in clips]
    return {"story": {"plots": [plot.model_dump(exclude_none=True) for plot in plots]}, "shots": shots}


def test_another_server_of_language_models_is_asked_anew_and_its_address_is_kept_nowhere(monkeypatch):
    asked = []
    for host in ("one", "other"):
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://me:SECRET@{host}/v1")
        script = stages.Script(text="A boy walks.", title="A story")
        pipeline.plan(script, Settings(llm="openai"), lambda stage, *inputs: asked.append(inputs))
    assert asked[0] != asked[1] and "SECRET" not in str(asked)


def test_a_plot_may_bring_its_own_video_and_nothing_is_searched_for_it(walk, studio):
    own = studio.folder / "palace.mp4"
    film = pipeline.render(story(plot("in the forest", reference=own)), Settings(), walk)
    assert film.shots[0].reference.path == own
    assert film.shots[0].reference.end == 4
    assert not [work for work in studio.work() if work.startswith("search")]


def test_a_clip_of_the_library_that_is_gone_is_left_out(walk, studio, caplog):
    (studio.folder / "forest.mp4").unlink()
    film = pipeline.render(story(plot("in the forest")), Settings(), walk)
    assert "forest" not in [candidate.clip.id for candidate in film.shots[0].candidates]
    assert "forest.mp4 does not exist" in caplog.text and "storycli index --prune" in caplog.text


def test_a_library_that_is_all_gone_is_told(walk, studio):
    for clip in studio.folder.glob("*.mp4"):
        clip.unlink()
    with pytest.raises(StoryError, match="does not exist"):
        pipeline.render(story(plot("in the forest")), Settings(), walk)


def test_a_plot_s_own_wishes_beat_the_settings_and_they_beat_the_model():
    settings = Settings(steps=7, guidance=3.5, negative="blur")
    take = stages.take(plot("one", guidance=9, seed=5, negative=""), settings, MODEL)
    assert (take.steps, take.guidance, take.tau, take.seed, take.negative) == (7, 9, MODEL.tau, 5, "")


def test_a_plot_s_seed_hangs_on_its_text_and_the_film_s_seed_alone():
    def seed(film_seed, **wishes):
        return stages.take(plot("one", **wishes), Settings(seed=film_seed), MODEL).seed

    assert seed(0) == seed(0, prompt="another prompt", query="another query")
    assert seed(0) != seed(1)


def test_a_size_that_the_model_cannot_make_is_refused_with_the_sizes_that_it_can():
    with pytest.raises(StoryError, match="cannot make a film of 72x64") as refused:
        stages.take(plot("one"), Settings(size="72x64"), MODEL)
    assert "multiples of 16" in refused.value.hint


def test_depth_is_estimated_at_the_size_that_is_sampled(studio, tmp_path):
    model = dataclasses.replace(MODEL, upscale=4)
    shown = clip("garden")
    shown = dataclasses.replace(shown, path=studio.folder / "garden.mp4")
    path = stages.depth(shown, 4, 8.0, (128, 64), model, catalogue.depth_network(None, model), into=tmp_path)
    depth = np.load(path)
    assert depth.shape == (4, 16, 32)
    assert depth.dtype == np.float32


def test_in_betweens_make_more_frames_of_the_same_seconds(walk, studio):
    (plain,) = pipeline.render(story(plot("one")), Settings(), walk).shots
    (smooth,) = pipeline.render(story(plot("one")), Settings(smooth=3), walk).shots
    before, after = (video.probe(shot.video) for shot in (plain, smooth))
    assert (before.num_frames, before.fps) == (4, 8)
    assert (after.num_frames, after.fps) == (12, 24)


def test_only_characters_that_a_prompt_marks_play_in_its_clip(teddy):
    heroes = {"teddy": teddy, "wolf": teddy / "wolf"}
    assert stages.cast_of(plot("x", prompt="{wolf} and {boy} run"), heroes) == {"wolf": teddy / "wolf"}
    assert stages.cast_of(plot("x", prompt="a wolf runs"), heroes) == {}


def test_a_guide_has_a_figure_for_each_hero_of_its_plot(walk, teddy, monkeypatch):
    wanted = []
    monkeypatch.setattr(company, "in_company", lambda depth, heroes: wanted.append(heroes) or depth)
    heroes = tuple(Character(name=name, dir=teddy) for name in ("teddy", "cub"))
    plots = plot("x", prompt="{teddy} and {cub} swim"), plot("y", prompt="{cub} swims"), plot("z", prompt="the sea")
    pipeline.render(story(*plots, characters=heroes), Settings(), walk)
    assert wanted == [2, 1, 0]


def test_a_character_is_trained_once_and_found_again(walk, studio, teddy):
    hero = Character(name="teddy", dir=teddy)
    board = story(plot("x", prompt="{teddy} swims"), characters=(hero,))
    pipeline.render(board, Settings(), walk)
    pipeline.render(board, Settings(), walk)
    assert [work for work in studio.work() if work.startswith("train")] == ["train teddy"]


def test_a_hero_that_another_film_is_learning_is_waited_for(studio, teddy):
    hero = Character(name="teddy", dir=teddy)
    with ThreadPoolExecutor() as pool, FileLock(teddy / ".lock"):
        film = pool.submit(stages.train_character, hero, (), MODEL)
        time.sleep(0.2)
        (teddy / "character.safetensors").write_text("learnt for the other film")
    assert film.result().read_text() == "learnt for the other film"
    assert studio.work() == []


def test_a_storyboard_is_not_told_again_as_plots(walk):
    board = story(plot("one"))
    assert pipeline.plan(board, Settings(), walk) is board
    assert walk.steps == []


def test_a_script_is_told_one_plot_a_line_when_nobody_reads_it(walk):
    told = pipeline.plan(stages.Script(text="One.\nTwo.\n", title="T"), Settings(llm="none"), walk)
    assert [(p.text, p.query, p.prompt) for p in told.plots] == [("One.",) * 3, ("Two.",) * 3]


@pytest.mark.parametrize(
    ("environment", "reader"),
    [
        ({}, "offline"),
        ({"OPENAI_API_KEY": "k"}, "openai"),
        ({"OPENAI_BASE_URL": "http://localhost"}, "openai"),
    ],
)
def test_a_language_model_reads_where_one_is_set(monkeypatch, environment, reader):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert plots.reader("auto") == reader
    assert plots.reader("none") == "none"


def test_narration_is_made_of_its_texts_its_voice_the_speech_model_and_its_server(walk, monkeypatch):
    heard = []

    def narrate(*inputs, into) -> None:
        heard.extend(inputs)

    monkeypatch.setattr(stages, "narrate", narrate)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    servers = []
    for address in ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        pipeline.render(story(plot("one")), Settings(narrate=True, voice="openai", tts_model="another"), walk)
        *known, server = heard
        assert known == ["one", "openai", "another"] and address not in server
        servers.append(server)
        heard.clear()
    assert servers[0] != servers[1]
    pipeline.render(story(plot("one")), Settings(narrate=True), walk)
    assert heard[-1] is None  # the voice that is built in asks nobody


def test_the_subtitles_are_the_plots_text_while_their_clips_are_shown(walk):
    film = pipeline.render(story(plot("in the forest"), plot("at the beach")), Settings(subtitles="srt"), walk)
    assert film.video.with_suffix(".srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:00,500\nin the forest\n\n2\n00:00:00,500 --> 00:00:01,000\nat the beach\n"
    )


def test_places_of_the_studio_have_six_clips(studio):
    assert sorted(path.stem for path in studio.folder.glob("*.mp4")) == sorted(PLACES)


@pytest.mark.parametrize(("model", "end"), [("storybook", "walking, storybook style"), ("lvdm", "walking")])
def test_prompts_are_told_in_the_style_of_the_model(walk, model, end):
    script = stages.Script(text="A cat walked.", title="A walk")
    told = pipeline.plan(script, Settings(model=model, llm="offline"), walk)
    assert told.plots[0].prompt == f"a cat {end}"
