"""The paper's measurements, on clips whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

from models.watcher import QUESTIONS, Watcher, WatcherConfig
from storycli import catalogue
from storycli.config import EXAMPLES
from storycli.errors import StoryError
from storycli.evaluate import bench, blind, clips, damage, page, study, sweeps
from storycli.world import words

MODEL = replace(catalogue.named("storybook"), frames=4)
TABLE = [EXAMPLES / "clips.csv"]


class Perfect(bench.Bench):
    """Gives back the clips whose captions it is asked for, or noise when their depth is to be ignored.

    Its latents are the very pixels.
    """

    def __init__(self, guides):
        super().__init__(MODEL.name, "cpu")
        self.clips = {sample.caption: sample.frames for sample in guides.read(range(len(guides)))}
        self.asked = []

    def latents(self, caption, depth, variants, steps, seed):
        self.asked.append((caption, seed))
        noise = np.random.default_rng(seed).integers(0, 255, (*depth.shape, 3), dtype=np.uint8)
        made = [noise if variant.tau == 1 else self.clips[caption] for variant in variants]
        return rearrange(torch.from_numpy(np.stack(made)), "v f h w c -> v c f h w").half()

    def frames(self, latents):
        return rearrange(latents, "c f h w -> f h w c").to(torch.uint8).numpy()


@pytest.fixture(autouse=True)
def watcher(monkeypatch):
    """Features of random convolutions: what is real and what is noise differ in them, too."""
    torch.manual_seed(0)
    labels = dict(characters=("fox", "pig"), actions=("run", "sit"), places=("park", "mars"), cameras=("still",))
    network = Watcher(WatcherConfig(**labels)).eval()
    monkeypatch.setattr(bench, "watcher", lambda: network)


@pytest.fixture(scope="module")
def sets():
    return clips.captioned(TABLE, MODEL, 10)


@pytest.fixture
def perfect(sets, monkeypatch):
    perfect = Perfect(sets[0])
    monkeypatch.setattr(bench, "at", lambda model, device: perfect)
    return perfect


def test_a_perfect_renderer_scores_as_the_clips_themselves_and_noise_scores_worse(sets, perfect, tmp_path):
    guides, real = sets
    wanted = study.table_1(guides, MODEL, 4)
    told = []
    found = study.measure(wanted, tmp_path, progress=lambda *now: told.append(now))
    truth, text_only, with_depth, with_tau = study.rows(wanted, found, study.real_features(real, tmp_path))
    assert told == [(8, 10), (10, 10)]
    for row in (with_depth, with_tau):
        assert (row.fvd, row.kvd, row.prompt_fit) == pytest.approx((truth.fvd, truth.kvd, truth.prompt_fit))
        assert row.structure_fit == pytest.approx(1.0)
    assert text_only.fvd > 2 * truth.fvd
    assert text_only.structure_fit < found.chance.mean() < with_depth.structure_fit - 0.1
    assert text_only.flicker is None


def test_a_measurement_that_was_stopped_goes_on_and_a_longer_one_goes_on_from_it(sets, perfect, tmp_path, monkeypatch):
    guides, _ = sets
    monkeypatch.setattr(study, "CHUNK", 2)
    wanted = study.table_1(replace(guides, told=guides.told[:4]), MODEL, 4)
    study.measure(replace(wanted, clips=replace(guides, told=guides.told[:2])), tmp_path)
    assert len(perfect.asked) == 2
    first = study.measure(wanted, tmp_path)
    assert len(perfect.asked) == 4
    for path in tmp_path.glob("measures-*"):
        path.unlink()
    again = study.measure(wanted, tmp_path)
    assert len(perfect.asked) == 4  # what was rendered is measured anew
    assert torch.equal(first.features, again.features)
    study.measure(replace(wanted, steps=5), tmp_path)
    assert len(perfect.asked) == 8


def test_variants_that_begin_alike_are_sampled_as_if_each_were_alone():
    guides = clips.captioned(TABLE, MODEL, 4)[0]
    (sample,) = guides.read(range(1))
    at = bench.Bench("storybook", "cpu")
    depth = at.estimator.estimate(sample.frames)[:2]
    wanted = study.table_1(guides, MODEL, 3)
    together = at.latents(sample.caption, depth, wanted.variants, 3, 7)
    for variant, made in zip(wanted.variants, together, strict=True):
        (alone,) = at.latents(sample.caption, depth, (variant,), 3, 7)
        assert torch.equal(made, alone)
    assert not torch.equal(together[1], together[2])


def test_text_alone_does_not_look_at_depth():
    at, guides = bench.Bench("storybook", "cpu"), clips.captioned(TABLE, MODEL, 4)[0]
    text_only = study.table_1(guides, MODEL, 2).variants[:1]
    depth = np.random.default_rng(0).random((2, 128, 128), np.float32)
    one, other = (at.latents("A fox runs.", d, text_only, 2, 0) for d in (depth, 1 - depth))
    assert torch.equal(one, other)


def test_prompt_fit_counts_clips_that_are_nearest_to_their_own_prompt():
    prompts = torch.eye(6)
    embeddings = prompts.clone()
    embeddings[2] = prompts[3]  # is taken for the next one
    embeddings[5] = prompts[1]  # is taken for one that it is not compared with
    assert study.prompt_fit(embeddings, prompts) == pytest.approx(4 / 6)
    assert study.prompt_fit(embeddings + 0.1 * prompts, prompts, among=2) == pytest.approx(5 / 6)


def test_flicker_counts_change_where_depth_stands_still():
    depth = np.zeros((3, 32, 32), np.float32)
    depth[1, :, 16:] = 0.5  # the right half moves
    clip = np.zeros((3, 32, 32, 3), np.uint8)
    clip[1, :, :16] = 10
    clip[1, :, 16:] = 200
    assert bench.flicker(clip, depth) == pytest.approx(10)


def test_the_watcher_answers_by_character_and_place():
    scene = words.Scene(seed=0, character="pig", action="run", place="park", direction="left")
    answers = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])
    assert QUESTIONS[:3] == study.SLOTS
    hits = study.right(answers, [scene, scene])
    assert {slot: hit.tolist() for slot, hit in hits.items()} == {
        "character": [True, True],
        "place": [True, False],
    }


def test_too_few_clips_are_refused(tmp_path):
    few = tmp_path / "few.csv"
    lines = TABLE[0].read_text().splitlines()
    few.write_text("\n".join([lines[0], *(str(EXAMPLES / line) for line in lines[1:8])]))
    with pytest.raises(StoryError, match="too few"):
        clips.captioned([few], MODEL, 8)


def test_clips_without_captions_are_refused(tmp_path):
    with pytest.raises(StoryError, match="caption"):
        clips.captioned([tmp_path], MODEL, 8)


def test_no_unseen_word_is_in_any_caption_of_the_core_world():
    tables = words.load_tables("core")
    told = [name for look in (*tables.characters.values(), *tables.held_out.values()) for name in look.names]
    told += [verb for action in tables.actions.values() for verb in (*action.verbs, *action.phrases)]
    told += [phrase for place in tables.places.values() for phrase in place.phrases]
    known = {word for phrase in told for word in phrase.replace("/", " ").lower().split()}
    for slot, word, meant in blind.UNSEEN_WORDS:
        assert word.split()[-1] not in known
        assert meant in {"character": tables.characters, "action": tables.actions, "place": tables.places}[slot]


def test_an_unseen_word_stands_where_the_known_one_stood():
    scene = words.Scene(seed=0, character="fox", action="walk", place="park", direction="left")
    assert blind.plain(scene) == "A fox is walking in the park."
    assert blind.plain(scene, action="marching") == "A fox is marching in the park."


def test_blind_prompts_pair_characters_with_what_training_never_showed_them_in(tmp_path):
    scenes, prompts = blind.blind_scenes(tmp_path, 12)
    assert len(set(prompts)) == 12
    for scene in scenes:
        assert scene.character in words.CORE
        assert any(words.held_out_pair(scene.character, other) for other in (scene.action, scene.place))


def test_a_sweep_of_tau_guides_every_caption_by_another_clip(sets):
    swept = sweeps.tau_study(sets[0], MODEL, 4)
    (sample,) = swept.clips.read(range(1))
    assert sample.caption == sets[0].told[1][1]
    assert np.array_equal(sample.frames, sets[0].read(range(1))[0].frames)


@pytest.mark.parametrize("kind", damage.DAMAGES)
def test_every_damage_is_done_to_each_clip_alike_whenever_it_is_read(sets, kind):
    shown = damage.Damaged(clips=sets[0], kind=kind)
    first, second = shown.read(range(2))
    assert np.array_equal(shown.read(range(1, 2))[0].frames, second.frames)
    assert first.frames.shape == sets[0].read(range(1))[0].frames.shape
    assert not np.array_equal(first.frames, sets[0].read(range(1))[0].frames)
    assert first.frames.dtype == np.uint8


def test_marks_are_counted_when_all_prompts_have_them(tmp_path):
    path = tmp_path / "blind.csv"
    assert page.counted(path, ["a, b", "c"]) is None
    assert path.read_text().splitlines()[1] == '"a, b",,,'
    path.write_text('prompt,character,action,place\n"a, b",1,1,0\nc,1,0,\n')
    assert page.counted(path, ["a, b", "c"]) is None
    path.write_text('prompt,character,action,place\n"a, b",1,1,0\nc,1,0,0\n')
    assert page.counted(path, ["a, b", "c"]) == {"character": 2, "action": 1, "place": 0}


def test_the_page_has_the_table_and_both_dials(sets, perfect, tmp_path):
    guides, real = sets
    perfect.clips |= dict.fromkeys(guides.captions(), perfect.clips[guides.told[0][1]])
    wanted = page.Evaluation(model=MODEL, guides=guides, real=real, steps=4, folder=tmp_path)
    text = page.page(wanted).read_text()
    assert text.count("| text + depth |") == 1
    assert all(f"| {kind} |" in text for kind in damage.DAMAGES)
    assert {path.name for path in tmp_path.glob("*.jpg")} == {"tau.jpg", "guidance.jpg"}
    for name in ("tau.jpg", "guidance.jpg"):
        assert f"({name})" in text


def test_the_table_is_markdown():
    row = study.Row(
        condition="text only", fvd=1.5, kvd=0.25, prompt_fit=0.5, shown=None, structure_fit=0.9, flicker=None
    )
    assert page.as_text([row]).splitlines()[-1] == "| text only | 1.50 | 0.2500 | 50% | 0.90 | - |"
    row = replace(row, shown={"character": 0.5, "place": 1.0}, flicker=2.0)
    assert page.as_text([row]).splitlines()[-1] == "| text only | 1.50 | 0.2500 | 50% | 50% | 100% | 0.90 | 2.0 |"
