"""Sampling a clip: structure, guidance, characters and seeds, on a small model of the real classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import video_model

from models.personal import TimeInv, projections
from models.sampler import clip_noise
from storycli import render
from storycli.characters.personal import Personal
from storycli.errors import StoryError
from storycli.render import Renderer, encode_prompts, sample, to_frames

OPTIONS = {"seed": 0, "steps": 4, "guidance": 3.0, "tau": 0.0}


@pytest.fixture(scope="module")
def model():
    return video_model()


def depth(seed=0):
    return torch.rand(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def hero(model, class_word="bear", strength=0.0):
    word = TimeInv(torch.zeros(384), rows=2)
    word.table.data = torch.randn(2, 384, generator=torch.Generator().manual_seed(0)) * strength
    name = projections(model.unet)[0]
    wide, inner = model.unet.get_submodule(name).weight.shape
    branches = {f"{name}.up": torch.ones(wide, 1) * strength, f"{name}.down": torch.ones(1, inner) * strength}
    return Personal(class_word=class_word, word=word, tensors=branches)


@pytest.mark.parametrize("sampler", ["sde", "dpm", "ddim"])
def test_the_same_seed_gives_the_same_clip_and_another_seed_another(model, sampler):
    options = OPTIONS | {"sampler": sampler}
    first = sample(model, "a bear", depth(), **options)
    assert first.shape == (1, 4, 3, 8, 8)
    assert torch.equal(first, sample(model, "a bear", depth(), **options))
    assert not torch.allclose(first, sample(model, "a bear", depth(), **options | {"seed": 1}))


def test_only_one_sampler_adds_fresh_noise_with_what_frames_share(model, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        render, "clip_noise", lambda shape, shared, *rest: drawn.append(shared) or clip_noise(shape, shared, *rest)
    )
    counts = {}
    for sampler in ("sde", "dpm", "ddim"):
        drawn.clear()
        sample(model, "a bear", depth(), **OPTIONS | {"sampler": sampler})
        assert set(drawn) == {model.shared_noise}
        counts[sampler] = len(drawn)
    assert counts == {"sde": OPTIONS["steps"], "dpm": 1, "ddim": 1}  # the last step adds none


def test_ddim_adds_fresh_noise_at_every_step_where_the_model_wants_it(model, monkeypatch):
    drawn = []
    monkeypatch.setattr(render, "clip_noise", lambda *how: drawn.append(how) or clip_noise(*how))
    options = OPTIONS | {"sampler": "ddim", "eta": 1.0}
    first = sample(model, "a bear", depth(), **options)
    assert len(drawn) == 1 + OPTIONS["steps"]
    assert torch.equal(first, sample(model, "a bear", depth(), **options))


@pytest.mark.parametrize("sampler", ["sde", "dpm"])
def test_clips_of_several_seeds_are_those_of_each_seed_alone(model, sampler):
    cast, options = {"teddy": hero(model, strength=0.5)}, OPTIONS | {"sampler": sampler}
    both = sample(model, "{teddy} walks", depth(), cast=cast, **options | {"seed": [3, 4]})
    assert both.shape == (2, 4, 3, 8, 8)
    for seed, clip in zip((3, 4), both, strict=True):
        alone = sample(model, "{teddy} walks", depth(), cast=cast, **options | {"seed": seed})
        torch.testing.assert_close(clip[None], alone, atol=2e-2, rtol=2e-2)  # bf16 adds up in another order


def test_structure_acts_down_to_tau_and_not_below(model):
    seen = []
    real = model.unet.forward

    def spy(x, t, context, structure, mask):
        seen.append((int(t[0]), structure is not None))
        return real(x, t, context, structure, mask)

    model.unet.forward = spy
    try:
        sample(model, "a bear", depth(), **OPTIONS | {"tau": 0.5})
    finally:
        del model.unet.forward
    assert seen == [(999, True), (749, True), (500, True), (250, False)]


@pytest.mark.parametrize("steady", [0.0, 0.03])
def test_depth_steers_the_picture_and_with_tau_one_it_does_not(model, steady):
    model = replace(model, steady=steady)
    near, far = depth(0), depth(1)
    assert not torch.allclose(sample(model, "a bear", near, **OPTIONS), sample(model, "a bear", far, **OPTIONS))
    free = OPTIONS | {"tau": 1.0}
    assert torch.equal(sample(model, "a bear", near, **free), sample(model, "a bear", far, **free))


def test_guidance_of_one_is_the_conditional_prediction_alone(model):
    plain = OPTIONS | {"guidance": 1.0}
    other = sample(model, "a bear", depth(), **plain, negative="a dark kitchen")
    torch.testing.assert_close(sample(model, "a bear", depth(), **plain), other, atol=2e-2, rtol=0)


def test_progress_counts_the_steps(model):
    told = []
    sample(model, "a bear", depth(), **OPTIONS, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_character_changes_the_clip_and_leaves_no_trace(model):
    plain = sample(model, "a bear walks", depth(), **OPTIONS)
    cast = {"teddy": hero(model, strength=1.0)}
    assert not torch.allclose(sample(model, "{teddy} walks", depth(), **OPTIONS, cast=cast), plain)
    assert torch.equal(sample(model, "a bear walks", depth(), **OPTIONS), plain)


def test_the_word_of_a_character_is_encoded_for_every_time_in_the_place_of_its_name(model):
    cast = {"teddy": hero(model, strength=1.0)}
    contexts, _ = encode_prompts(model, "{teddy} walks", "", cast, [900, 800, 100])
    assert torch.equal(contexts[900], contexts[800])  # one row of two serves both
    assert not torch.allclose(contexts[900], contexts[100])
    plain, _ = encode_prompts(model, "teddy walks", "", {}, [900, 100])
    assert plain[900] is plain[100]


def test_a_prompt_in_which_the_character_comes_too_late_is_refused(model):
    with pytest.raises(StoryError, match="too long"):
        sample(model, "very " * 40 + "{teddy}", depth(), **OPTIONS, cast={"teddy": hero(model)})


@pytest.mark.parametrize(("able", "tau", "carries"), [(True, 0.2, True), (True, 1.0, False), (False, 0.2, False)])
def test_figures_are_carried_along_where_the_guide_says_how_they_move(model, monkeypatch, able, tau, carries):
    monkeypatch.setattr(render, "load_model", lambda name: replace(model, carries=able))
    guided_by = []
    monkeypatch.setattr(render, "carried", lambda frames, depth, heroes: guided_by.append(depth) or frames[::-1])
    guide, renderer = depth()[0, 0].numpy(), Renderer("storybook", "cpu")
    own = to_frames(renderer.model, sample(renderer.model, "a bear", depth(), **OPTIONS | {"tau": tau}))
    frames = renderer.render("a bear", guide, **OPTIONS | {"tau": tau})
    assert guided_by == [guide] * carries
    np.testing.assert_array_equal(frames, own[::-1] if carries else own)


def test_frames_are_rounded_pixels(model):
    latents = torch.tensor([-2.0, -1.0, 0.0, 1.0])[None, :, None, None, None].expand(1, 4, 2, 8, 8).clone()
    frames = to_frames(model, latents)
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8
    assert frames[0, 0, 0].tolist() == [0, 0, 128]
