"""The paper's model from files in the published layout to a film and to a character, with narrow layers."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import golden_weights as golden
import library
import numpy as np
import published
import pytest
import torch
from PIL import Image
from tiny import video_model

from models import precision, unet
from models.personal import projections, remove_branches, word_start
from models.sampler import gaussian
from storycli import stages
from storycli.characters import methods as personalise
from storycli.characters.learn import train
from storycli.characters.methods import CharacterConfig, Pupil, config_for, personal_loss
from storycli.characters.personal import load_character, ready
from storycli.characters.views import Views, encode_views
from storycli.depth import DepthEstimator
from storycli.errors import StoryError
from storycli.media import video
from storycli.render import Renderer, load_model, sample, to_frames
from storycli.story import Character

OPTIONS = {"seed": 3, "steps": 2, "guidance": 9.0, "tau": 0.0, "sampler": "ddim"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    published.write(folder / "weights" / "lvdm")
    with published.narrow():
        yield folder


@pytest.fixture(autouse=True)
def _at_home(home, monkeypatch):
    monkeypatch.setenv("STORYCLI_HOME", str(home))


@pytest.fixture(scope="module")
def model(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYCLI_HOME", str(home))
        return load_model("lvdm")


@pytest.fixture
def exact(monkeypatch):
    """Without bf16, which would hide small mistakes."""
    monkeypatch.setattr(precision, "autocast", lambda device: nullcontext())


def depth(f=3, height=64, width=128):
    return torch.rand(1, 1, f, height, width, generator=torch.Generator().manual_seed(0))


def test_a_storyboard_becomes_a_film_through_the_real_networks(run, tmp_path):
    library.clip(tmp_path / "ride.mp4", size=(96, 64))
    (tmp_path / "board.yaml").write_text(
        "version: 1\ntitle: A ride\nplots:\n"
        "  - {text: A ride., query: a ride, prompt: a rider in the hills, reference: ride.mp4}\n"
    )
    done = run("render", "board.yaml", "--model", "lvdm", "--device", "cpu", "--size", "128x64", "--frames", 6,
               "--steps", 2, "-o", "ride-film.mp4")  # fmt: skip
    assert done.code == 0, done.err
    info = video.probe(tmp_path / "ride-film.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (128, 64, 6, 8)
    assert video.read(tmp_path / "ride-film.mp4").std(axis=(1, 2)).min() > 5  # no frame is flat
    folder = tmp_path / "ride-film.storycli"
    near = np.load(next(folder.rglob("depth.npy")))
    assert near.shape == (6, 64, 128) and near.min() == 0 and near.max() == 1 and near.std() > 0.1
    (shot,) = json.loads((folder / "manifest.json").read_text())["shots"]
    assert (shot["take"]["sampler"], shot["take"]["steps"], shot["take"]["guidance"]) == ("ddim", 2, 15)


def test_frames_are_those_of_plain_ddim_with_a_pass_for_each_prompt(model, exact):
    guide, scale, abar = depth(), OPTIONS["guidance"], model.alpha_bar.double()
    with torch.no_grad():
        said, unsaid = (model.text.encode(model.text.tokenize([prompt])[0]) for prompt in ("a rider", "rain"))
        features = model.structure(2 * guide - 1)
        x = gaussian((1, 4, 3, 8, 16), OPTIONS["seed"])
        for t, before in ((501, 1), (1, 0)):
            now = torch.tensor([t])
            with_text, without = (model.unet(x, now, context, features) for context in (said, unsaid))
            eps = without + scale * (with_text - without)
            x0 = (x - (1 - abar[t]).sqrt().float() * eps) / abar[t].sqrt().float()
            x = abar[before].sqrt().float() * x0 + (1 - abar[before]).sqrt().float() * eps
        pixels = model.autoencoder_decode(x)[0].permute(1, 2, 3, 0)
    latents = sample(model, "a rider", guide, negative="rain", **OPTIONS)
    assert golden.relative(latents, x) < 1e-4
    expected = ((pixels + 1) * 127.5).clamp(0, 255).round().numpy()
    frames = to_frames(model, latents)
    assert frames.shape == (3, 64, 128, 3)
    assert np.abs(frames - expected).max() <= 1


def test_the_quick_sampler_gives_another_clip_in_the_steps_it_is_told(model):
    told = []
    quick = sample(model, "a rider", depth(1), **OPTIONS | {"sampler": "dpm"}, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    assert golden.relative(quick, sample(model, "a rider", depth(1), **OPTIONS)) > 0.1


def test_progress_counts_the_steps_that_ddim_makes_of_those_asked_for(model):
    told = []
    options = OPTIONS | {"steps": 6}
    sample(model, "a rider", depth(1, 64, 64), **options, progress=lambda *done: told.append(done))
    assert told == [(n, 7) for n in range(1, 8)]


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 36), ("dpm", 1000)])
def test_a_number_of_steps_that_a_sampler_cannot_take_is_refused(model, sampler, steps):
    with pytest.raises(StoryError, match=str(steps)) as caught:
        sample(model, "a rider", depth(1), **OPTIONS | {"sampler": sampler, "steps": steps})
    assert "--steps" in caught.value.hint


@pytest.mark.parametrize(
    ("f", "height", "width"), [(1, 64, 64), (8, 64, 64), (24, 64, 64), (64, 64, 64), (2, 128, 192)]
)
def test_clips_have_the_length_and_the_size_of_their_depth(model, f, height, width):
    latents = sample(model, "a rider", depth(f, height, width), **OPTIONS)
    assert latents.shape == (1, 4, f, height // 8, width // 8)
    assert latents.isfinite().all()


@pytest.mark.parametrize(("f", "height", "width"), [(2, 64, 96), (2, 72, 64), (0, 64, 64)])
def test_a_size_that_the_model_cannot_make_is_refused(model, f, height, width):
    with pytest.raises(StoryError, match=f"{f} frames of {width}x{height}") as caught:
        sample(model, "a rider", depth(f, height, width), **OPTIONS)
    assert "64" in caught.value.hint


def test_the_built_in_model_takes_finer_sizes():
    small = video_model()  # of two levels
    assert sample(small, "a bear", depth(1, 16, 48), **OPTIONS).shape == (1, 4, 1, 2, 6)
    with pytest.raises(StoryError, match="1 frames of 24x16"):
        sample(small, "a bear", depth(1, 16, 24), **OPTIONS)


def test_decoding_a_few_frames_at_a_time_changes_nothing(model, exact):
    latents = golden.randn(1, 1, 4, 6, 8, 8)
    with torch.no_grad():
        whole = model.autoencoder_decode(latents).clamp(-1, 1)
    expected = ((whole[0] + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(to_frames(model, latents) - expected).max() <= 1


@pytest.fixture
def copied(home, tmp_path, monkeypatch):
    """The files once more, to be spoilt; no renderer has them loaded."""
    monkeypatch.setenv("STORYCLI_HOME", str(tmp_path))
    stages._renderer.cache_clear()
    return Path(shutil.copytree(home / "weights" / "lvdm", tmp_path / "weights" / "lvdm"))


def test_a_model_without_all_of_its_parts_is_refused_by_name(copied):
    base = torch.load(copied / "model_rm_wtm.ckpt", weights_only=True)["state_dict"]
    kept = {key: tensor for key, tensor in base.items() if not key.startswith(("first_stage_", "cond_stage_"))}
    torch.save({"state_dict": kept}, copied / "model_rm_wtm.ckpt")
    with pytest.raises(StoryError, match="lacks autoencoder and text") as caught:
        Renderer("lvdm", "cpu")
    assert "models pull lvdm" in caught.value.hint


def test_weights_of_another_shape_are_refused(copied):
    adapter = torch.load(copied / "adapter.pth", weights_only=True)
    torch.save(adapter | {"conv_in.bias": torch.zeros(3)}, copied / "adapter.pth")
    with pytest.raises(StoryError, match=r"adapter\.pth does not fit StructureEncoder.*conv_in\.bias \(3,\), not"):
        Renderer("lvdm", "cpu")


def damaged(folder: Path, harm: str, target: Path) -> None:
    base = folder / "model_rm_wtm.ckpt"
    whole = base.read_bytes()
    if harm == "half of it":
        base.write_bytes(whole[: len(whole) // 2])
    elif harm == "a page":
        base.write_text("<!DOCTYPE html><html>Sign in</html>")
    elif harm == "a program":
        torch.save({"state_dict": Program(target)}, base)
    else:
        base.rename(folder / "model_rm_wtm.ckpt.part")


class Program:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.mkdir, (self.target,)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("half of it", "is cut short"),
        ("a page", "is not a weights file"),
        ("a program", "is refused"),
        ("half downloaded", "not here: model_rm_wtm.ckpt"),
    ],
)
def test_damaged_weights_end_in_an_error_and_nothing_is_run_or_left(copied, run, tmp_path, harm, message):
    library.clip(tmp_path / "ride.mp4", size=(96, 64))
    (tmp_path / "board.yaml").write_text(
        "version: 1\ntitle: A ride\nplots: [{text: A ride., query: a ride, prompt: a rider, reference: ride.mp4}]\n"
    )
    damaged(copied, harm, tmp_path / "ran")
    done = run("render", "board.yaml", "--model", "lvdm", "--device", "cpu", "--size", "64x64", "--frames", 1)
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "ran").exists() and not list(tmp_path.glob("*film*.mp4"))
    assert not [path for path in copied.iterdir() if path.name.startswith(".model")]


def test_a_compiled_model_makes_the_same_clip(model, exact, monkeypatch):
    expected = sample(model, "a rider", depth(), **OPTIONS)
    compiled = torch.compile(model.unet, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        sample(replace(model, unet=compiled), "a rider", depth(), **OPTIONS), expected, rtol=1e-4, atol=1e-4
    )


def test_a_part_is_beside_the_unet_only_while_it_works(model):
    away, near = torch.nn.BatchNorm1d(2), torch.nn.Linear(1, 1, device="meta")
    far = type(model)(
        unet=torch.nn.Linear(1, 1, device="meta"),
        structure=near,
        autoencoder=None,
        text=away,
        alpha_bar=model.alpha_bar,
    )
    home, there = dict(away.state_dict(keep_vars=True)), near.weight
    with torch.inference_mode(), far.at_work("text", "structure", "upscaler"):
        assert {tensor.device.type for tensor in away.state_dict().values()} == {"meta"}
        assert not away.weight.is_inference()  # which could not be trained through
        assert near.weight is there
    assert all(tensor is home[name] for name, tensor in away.state_dict(keep_vars=True).items())


def test_on_one_device_no_part_moves(model):
    before = model.text.state_dict(keep_vars=True)
    with model.at_work("text"):
        assert all(tensor is before[name] for name, tensor in model.text.state_dict(keep_vars=True).items())


def test_the_unet_stays_in_the_memory_of_its_file_on_a_cpu(model):
    before = {name: weight.data_ptr() for name, weight in model.unet.state_dict().items()}
    assert {name: weight.data_ptr() for name, weight in model.to("cpu").unet.state_dict().items()} == before


def test_without_guidance_the_prompt_is_all_that_is_denoised(model, exact, monkeypatch):
    seen = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), len(args[2]))))
    plain = sample(model, "a rider", depth(), **OPTIONS | {"guidance": 1.0})
    hook.remove()
    assert set(seen) == {(1, 1)}
    almost = sample(model, "a rider", depth(), **OPTIONS | {"guidance": 1 + 1e-6})
    torch.testing.assert_close(plain, almost, rtol=1e-3, atol=1e-3)


# Characters

CONFIG = config_for("lvdm", batch=2, frames=4, rows=10, rank=2, drop_structure=0.0, checkpointing=False)


@pytest.fixture
def learner(model, exact):
    """Who learns with the model, by branches that are not zero, and two views to learn from."""
    pupil = Pupil.begin(model, "teddy bear", CONFIG)
    for number, branch in enumerate(pupil.branches.values()):
        branch.up.weight.data = 0.1 * golden.randn(number, *branch.up.weight.shape)
        branch.layer.requires_grad_(False)
    # Twice as wide as high: attention to a single token, as in the middle of a 64x64 clip, teaches queries nothing.
    latents, depths = golden.randn(1, 2, 4, 1, 8, 16), depth(2)[0, 0][:, None, None]
    prompts, plain = ["a <new1> teddy bear", "the <new1> teddy bear"], ["a teddy bear", "the teddy bear"]
    views = Views(latents, depths, torch.ones(2, 1, 1, 8, 16), prompts, *model.text.read(plain))
    yield pupil, views
    remove_branches(model.unet, pupil.branches)
    model.unet.checkpointing = False


def learn(model, pupil, views, others=None):
    pupil.word.zero_grad()
    for parameter in model.unet.parameters():
        parameter.grad = None
    with precision.attention_for_training("cpu"):
        loss = personal_loss(model, pupil, views, others, CONFIG, torch.Generator().manual_seed(5))
        loss.backward()
    return loss.item()


def test_gradients_reach_the_word_and_the_branches_and_nothing_else(model, learner):
    pupil, views = learner
    learn(model, pupil, views)
    t, table = torch.randint(1000, (2,), generator=_after_picks()), pupil.word.table
    used = {int(row) for row in t * CONFIG.rows // 1000}
    assert {row for row in range(CONFIG.rows) if table.grad[row].abs().max() > 0} == used
    branches = pupil.branches.values()
    assert all(getattr(b, side).weight.grad.abs().max() > 0 for b in branches for side in ("up", "down"))
    frozen = [p for name, p in model.unet.named_parameters() if not name.endswith((".up.weight", ".down.weight"))]
    others = [*model.text.parameters(), *model.structure.parameters(), *model.autoencoder.parameters()]
    assert all(parameter.grad is None for parameter in [*frozen, *others])


def test_the_papers_branches_are_on_attention_only(model, learner):
    branched = set(learner[0].branches)
    remove_branches(model.unet, learner[0].branches)
    assert branched == set(projections(model.unet))


def _after_picks():
    generator = torch.Generator().manual_seed(5)
    torch.randint(2, (CONFIG.batch,), generator=generator)
    return generator


def test_a_picture_is_a_still_clip_with_its_own_still_depth(model, learner, monkeypatch):
    pupil, views = learner
    seen = {}

    def watch(part):
        def note(_, args, kwargs):
            seen[part] = (*args, *kwargs.values())

        return note

    hooks = [
        getattr(model, part).register_forward_pre_hook(watch(part), with_kwargs=True) for part in ("structure", "unet")
    ]
    monkeypatch.setattr(personalise, "clip_noise", lambda shape, *_: torch.zeros(shape))
    dog, words = model.text.read(["a dog"])
    others = Views(golden.randn(2, 1, 4, 4, 8, 16), depth(4), torch.ones(1, 1, 4, 8, 16), ["a dog"], dog, words)
    learn(model, pupil, views, others)
    for hook in hooks:
        hook.remove()
    (guide,) = seen["structure"]
    x_t, _, context, _, mask = seen["unet"]
    assert guide.shape == (3, 1, 4, 64, 128) and x_t.shape == (3, 4, 4, 8, 16)
    for still, clip in zip(guide[:2], x_t[:2], strict=True):
        (row,) = [n for n, own in enumerate(views.depth) if torch.equal((2 * own - 1).expand_as(still), still)]
        shown = views.latents[row].expand_as(clip)
        assert torch.cosine_similarity(clip.flatten(), shown.flatten(), dim=0) == pytest.approx(1)
    assert not torch.allclose(x_t[2, :, 0], x_t[2, :, 1])  # a clip of others moves
    assert context.shape == (3, 77, 32) and mask is None and torch.equal(context[2], dog[0])


def test_checkpointing_gives_the_same_gradients(model, learner):
    pupil, views = learner
    plain = learn(model, pupil, views)
    before = [pupil.word.table.grad.clone(), *(b.up.weight.grad.clone() for b in pupil.branches.values())]
    model.unet.checkpointing = True
    assert learn(model, pupil, views) == pytest.approx(plain)
    after = [pupil.word.table.grad, *(b.up.weight.grad for b in pupil.branches.values())]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_word_starts_as_the_mean_of_its_class_word(model):
    ids = model.text.tokenize(["teddy bear", "cat"])[0]
    assert torch.equal(word_start(model.text, "teddy bear"), model.text.embed(ids)[0, 1:3].mean(0))
    assert torch.equal(word_start(model.text, "cat"), model.text.embed(ids)[1, 1])


def test_clips_are_encoded_as_clips_with_one_depth_scale(model):
    frames = library.moving(1, 3, (64, 64))
    views = encode_views(model, DepthEstimator("lvdm", "cpu"), frames[None], ["a dog"])
    assert views.latents.shape == (1, 4, 3, 8, 8)
    assert views.depth.shape == (1, 1, 3, 64, 64)
    assert views.mask.shape == (1, 1, 3, 8, 8)
    assert views.depth.min() == 0 and views.depth.max() == 1


def test_the_papers_numbers_are_the_default_for_its_model():
    config = config_for("lvdm", seed=4)
    assert (config.steps, config.rows, config.frames, config.seed) == (1000, 1000, 16, 4)
    assert config.checkpointing
    assert config_for("storybook") == CharacterConfig()


def test_a_character_is_learnt_from_pictures_and_rendered(tmp_path, caplog, monkeypatch):
    recomputed = []
    again = unet.checkpoint
    monkeypatch.setattr(unet, "checkpoint", lambda *args, **kw: recomputed.append(args[0]) or again(*args, **kw))
    for number in range(2):
        picture = np.kron(np.random.default_rng(number).integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1)))
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{number}.png")
    teddy = Character(name="teddy", dir=tmp_path, class_word="teddy bear")
    done = []
    config = config_for("lvdm", steps=2, views=1, frames=4, rank=2)
    path = train(teddy, "lvdm", device="cpu", config=config, progress=lambda *now: done.append(now))
    assert done == [(1, 2), (2, 2)]
    assert recomputed
    assert "no captioned clips of teddy bear" in caplog.text  # there is no library of real footage
    assert ready(teddy, "lvdm") == path
    word = load_character(path, "lvdm").word
    assert word.table.shape == (1000, 32)
    renderer, near = Renderer("lvdm", "cpu"), depth(2, 64, 64)[0, 0].numpy()
    frames = renderer.render("{teddy} rides", near, **OPTIONS, characters={"teddy": path})
    assert frames.shape == (2, 64, 64, 3)
    plain = renderer.render("a teddy bear rides", near, **OPTIONS)
    assert np.abs(frames.astype(int) - plain).max() > 0
