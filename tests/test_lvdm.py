"""The paper's model from files in the published layout to a film and to a character, with narrow layers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import golden_weights as golden
import library
import numpy as np
import published
import pytest
import torch
from PIL import Image
from tiny import video_model

from models import precision, unet
from models.checkpoint import write_tensors
from models.personal import projections, remove_branches, word_start
from models.sampler import gaussian
from models.weights import load_frozen_in_time
from storycli import stages
from storycli.catalogue import named
from storycli.characters import methods as personalise
from storycli.characters import proof
from storycli.characters.learn import train
from storycli.characters.methods import CharacterConfig, Pupil, config_for, personal_loss
from storycli.characters.personal import identity, load_character, ready
from storycli.characters.views import Views, class_views, encode_views
from storycli.depth import DepthEstimator
from storycli.errors import StoryError
from storycli.judge import Judge
from storycli.library.encoder import BUILT_IN
from storycli.media import video
from storycli.render import Renderer, load_model, sample, to_frames
from storycli.story import Candidate, Character, Clip

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
    monkeypatch.setattr(precision, "quick_in_bf16", lambda device: False)


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


def test_the_paper_s_model_is_sampled_as_its_authors_do_with_fresh_noise_of_its_seed(model, exact):
    """DDIM at eta 1, here written out (Song et al. 2021, eq. 12); the noise of every step goes on from the seed's."""
    guide, scale, abar = depth(1, 64, 64), OPTIONS["guidance"], model.alpha_bar.double()
    with torch.no_grad():
        said, unsaid = (model.text.encode(model.text.tokenize([prompt])[0]) for prompt in ("a rider", ""))
        features = model.structure(2 * guide - 1)
        seeded = torch.Generator().manual_seed(OPTIONS["seed"])
        x = torch.randn(1, 4, 1, 8, 8, generator=seeded)
        for t, before in ((501, 1), (1, 0)):
            with_text, without = (model.unet(x, torch.tensor([t]), context, features) for context in (said, unsaid))
            eps = without + scale * (with_text - without)
            a, b = abar[t], abar[before]
            sigma = ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
            x0 = (x - (1 - a).sqrt().float() * eps) / a.sqrt().float()
            x = b.sqrt().float() * x0 + (1 - b - sigma**2).sqrt().float() * eps
            x = x + sigma.float() * torch.randn(x.shape, generator=seeded)
    renderer = Renderer("lvdm", "cpu")
    frames = renderer.render("a rider", guide[0, 0].numpy(), **OPTIONS)
    assert np.abs(frames.astype(int) - to_frames(model, x)).max() <= 1


def test_only_the_unet_is_rounded(model, monkeypatch):
    monkeypatch.setattr(precision, "quick_in_bf16", lambda device: True)
    rounded = {}

    def note(part):
        return lambda *_: rounded.update({part: torch.is_autocast_enabled("cpu")})

    layers = {
        "unet": model.unet,
        "text": model.text.model.encoder,
        "structure": model.structure,
        "decoder": model.autoencoder.model.decoder,
        "encoder": model.autoencoder.model.encoder,
    }
    hooks = [layer.register_forward_pre_hook(note(part)) for part, layer in layers.items()]
    to_frames(model, sample(model, "a rider", depth(1, 64, 64), **OPTIONS))
    assert rounded.pop("text") is False
    encode_views(model, DepthEstimator("lvdm", "cpu"), library.moving(1, 1, (64, 64))[None], ["a dog"])
    for hook in hooks:
        hook.remove()
    assert rounded == {"unet": True, "text": False, "structure": False, "decoder": False, "encoder": False}


def test_people_without_a_gpu_are_told_how_long_it_takes(caplog):
    Renderer("lvdm", "cpu")
    assert "lvdm needs a GPU: on this CPU a clip takes an hour" in caplog.text
    caplog.clear()
    Renderer("storybook", "cpu")
    assert not caplog.text


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


# Judging


def test_clips_are_judged_by_a_network_that_knows_photographs(home, tmp_path):
    judge, frames = Judge("lvdm", (64, 64), "cpu"), library.moving(1, 4, (64, 64))
    assert judge.encoder.path == home / "weights" / "lvdm" / "frozen-in-time.pth.tar"
    Image.fromarray(frames[0]).save(tmp_path / "hero.png")
    near, likeness = judge.estimator.estimate(frames), judge.likeness(tmp_path)
    scores = judge.scores(frames, near, "a dog", [likeness])
    network = load_frozen_in_time(judge.encoder.path)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        seen, said = network.encode_video(network.preprocess(pixels)), network.encode_text(*network.tokenize(["a dog"]))
    assert scores.prompt == pytest.approx(torch.cosine_similarity(seen, said).item(), abs=1e-5)
    assert -1 <= scores.identity <= 1 and scores.structure == pytest.approx(1)
    assert Judge("storybook", (128, 128), "cpu").encoder.path == BUILT_IN


def test_without_that_network_there_is_a_warning_and_no_verdict(copied, caplog):
    (copied / "frozen-in-time.pth.tar").unlink()
    judge, frames = Judge("lvdm", (64, 64), "cpu"), library.moving(1, 4, (64, 64))
    assert caplog.messages == [
        "frozen-in-time.pth.tar is not here, so nobody says whether clips show what they should "
        "(storycli models pull lvdm)"
    ]
    scores = judge.scores(frames, judge.estimator.estimate(frames), "a dog")
    assert (scores.identity, scores.prompt) == (None, None)
    assert scores.structure == pytest.approx(1)


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


def test_rows_of_the_word_that_no_step_drew_lie_between_those_that_learnt():
    start = torch.tensor([1.0, -1.0])
    table = start.repeat(8, 1)
    table[2], table[6], table[3, 0] = torch.tensor([5.0, 0.0]), torch.tensor([8.0, 6.0]), 2.0
    whole = personalise.without_gaps(table, start)
    expected = [[5, 0], [5, 0], [5, 0], [2, -1], [4, 4 / 3], [6, 11 / 3], [8, 6], [8, 6]]
    torch.testing.assert_close(whole, torch.tensor(expected))
    assert torch.equal(whole[[2, 3, 6]], table[[2, 3, 6]])


def test_a_word_that_learnt_nowhere_or_everywhere_is_left_as_it_is():
    start, learnt = torch.zeros(3), golden.randn(1, 5, 3)
    assert torch.equal(personalise.without_gaps(learnt, start), learnt)
    assert torch.equal(personalise.without_gaps(start.repeat(5, 1), start), start.repeat(5, 1))


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
    assert "no clips of teddy bear" in caplog.text  # there is no library of real footage
    assert ready(teddy, "lvdm") == path
    word = load_character(path, "lvdm").word
    assert word.table.shape == (1000, 32)
    plain = word_start(load_model("lvdm").text, "teddy bear")
    assert (word.table != plain).any(1).all()  # though two steps draw two rows, and never all
    renderer, near = Renderer("lvdm", "cpu"), depth(2, 64, 64)[0, 0].numpy()
    frames = renderer.render("{teddy} rides", near, **OPTIONS, characters={"teddy": path})
    assert frames.shape == (2, 64, 64, 3)
    plain = renderer.render("a teddy bear rides", near, **OPTIONS)
    assert np.abs(frames.astype(int) - plain).max() > 0


@pytest.fixture
def hero(tmp_path, monkeypatch):
    """A character that has learnt nothing, with its weights, and a model and a proof that take a moment."""
    Image.fromarray(library.moving(0, 1, (64, 64))[0]).save(tmp_path / "hero.png")
    teddy = Character(name="teddy", dir=tmp_path, class_word="teddy bear")
    path = tmp_path / "character.safetensors"
    table = word_start(load_model("lvdm").text, "teddy bear")[None]
    write_tensors(path, {"word": table}, identity(teddy, "lvdm"))
    monkeypatch.setattr(proof, "FRAMES", 2)
    monkeypatch.setattr(proof, "SCENES", proof.SCENES[:1])
    return teddy, path, replace(named("lvdm"), steps=1)


def shown(clips, prompts, monkeypatch):
    """Have proof take guides from these clips, and note the prompts that it renders."""
    monkeypatch.setattr(proof, "Library", lambda folder: SimpleNamespace(search=lambda *_: clips[folder]))
    render = Renderer.render
    monkeypatch.setattr(
        Renderer, "render", lambda self, prompt, *a, **k: prompts.append(prompt) or render(self, prompt, *a, **k)
    )


def candidate(path):
    return Candidate(clip=Clip(id=path.name, path=path, start=0, end=12, fps=12, width=64, height=48), score=1.0)


def test_a_character_is_proved_in_the_model_s_style_with_guides_of_real_footage(hero, tmp_path, monkeypatch, caplog):
    real, prompts = library.clip(tmp_path / "real.mp4"), []
    shown({tmp_path: [candidate(tmp_path / "gone.mp4"), candidate(real)]}, prompts, monkeypatch)
    found = proof.prove(*hero, index=tmp_path, device="cpu")
    assert prompts == ["a {teddy} walking in a snowy forest", "a teddy bear walking in a snowy forest"]
    assert "gone.mp4" in caplog.text and "that clip is left out" in caplog.text
    assert -1 <= found.identity <= 1 and not found.took


def test_a_character_that_nobody_can_judge_is_shown_and_not_refused(hero, copied, tmp_path, monkeypatch):
    (copied / "frozen-in-time.pth.tar").unlink()
    shown({None: [candidate(library.clip(tmp_path / "drawn.mp4"))]}, [], monkeypatch)
    found = proof.prove(*hero, device="cpu")
    assert found.sheet.is_file() and (found.identity, found.prompt) == (None, None)
    proof.check(found)


def test_a_class_has_two_hundred_clips_of_which_those_without_a_caption_are_told_by_it(
    model, tmp_path, monkeypatch, caplog
):
    clips = [candidate(library.clip(tmp_path / f"{n}.mp4")) for n in range(2)]
    clips[0] = replace(clips[0], clip=replace(clips[0].clip, caption="a bear runs"))
    asked = []

    def search(query, k):
        asked.append((query, k))
        return [candidate(tmp_path / "gone.mp4"), *clips]

    monkeypatch.setattr("storycli.retrieve.Library", lambda folder: SimpleNamespace(search=search))
    others = class_views(model, "lvdm", "bear", 64, 2, tmp_path)
    assert asked == [("bear", 200)]
    assert others.prompts == ["a bear runs", "a bear"] and others.latents.shape == (2, 4, 2, 8, 8)
    assert "gone.mp4" in caplog.text
