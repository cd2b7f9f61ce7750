"""Training of the U-Net and the structure encoder on small shards of noise."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.optim import muon
from tiny import STRUCTURE, UNET
from torch import nn

from models.schedule import cosine
from models.structure import StructureEncoder
from models.unet import VideoUNet
from storycli import config
from storycli.errors import StoryError
from storycli.training import fit, video
from storycli.training.dataset import Shards
from storycli.training.diffusion import Denoiser, TrainConfig, denoising_loss, pick_batch, train, vary_structure
from storycli.training.fit import FitSettings, learning_rate, optimizer_for

CONFIG = TrainConfig(still_frames=16, clip_frames=16, batch=4, warmup=8, still_share=0.5)
EMPTY = torch.zeros(5, 384), torch.ones(5, dtype=torch.bool)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    generator = torch.Generator().manual_seed(0)
    for kind, n, f in (("stills", 6, 1), ("clips", 3, 4)):
        (folder / kind).mkdir()
        for shard in range(2):
            save_file(
                {
                    "latents": torch.randn(n, 4, f, 8, 8, generator=generator).half(),
                    "depth": torch.randint(0, 255, (n, f, 64, 64), generator=generator, dtype=torch.uint8),
                    "mask": torch.randint(0, 255, (n, f, 8, 8), generator=generator, dtype=torch.uint8),
                    "context": torch.randn(n, 5, 384, generator=generator).half(),
                    "words": torch.ones(n, 5, dtype=torch.bool),
                },
                folder / kind / f"{shard:05d}.safetensors",
            )
    return folder


def run(data, out, config=CONFIG, stop=None, **options):
    for progress in train(config, UNET, STRUCTURE, data, out, empty_context=EMPTY, **options):
        if stop and progress.seen >= stop:
            return


def test_shards_are_read_as_one_list(data):
    shards = Shards(data / "stills")
    assert len(shards) == 12
    second = load_file(data / "stills" / "00001.safetensors")["latents"]
    torch.testing.assert_close(shards[[7, 0]]["latents"][0], second[1])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which torch looks at, and hides what it says
def test_compiled_networks_learn_the_same(data, tmp_path, monkeypatch):
    compile, compiled = nn.Module.compile, []

    def without_kernels(self, **how):  # a compiler of C++ takes minutes
        compiled.append(type(self))
        compile(self, backend="eager", **how)

    monkeypatch.setattr(nn.Module, "compile", without_kernels)
    run(data, tmp_path / "plain")
    assert not compiled
    run(data, tmp_path / "compiled", replace(CONFIG, compile=True))
    assert compiled == [VideoUNet, StructureEncoder]
    for name in ("unet", "structure"):
        plain, same = (load_file(tmp_path / kind / f"{name}.safetensors") for kind in ("plain", "compiled"))
        torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(data, tmp_path, optimizer):
    asked = replace(CONFIG, optimizer=optimizer)
    run(data, tmp_path / "whole", asked)
    run(data, tmp_path / "stopped", asked, stop=16, checkpoint_seconds=-1)
    run(data, tmp_path / "stopped", asked)
    for name in ("unet", "structure"):
        whole, resumed = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "stopped"))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    ("stage", "changed"), [("base", {"unet"}), ("structure", {"structure"}), ("joint", {"unet", "structure"})]
)
def test_each_stage_trains_its_networks_and_no_others(data, tmp_path, stage, changed):
    torch.manual_seed(CONFIG.seed)
    before = Denoiser(UNET, STRUCTURE).state_dict()
    run(data, tmp_path, replace(CONFIG, stage=stage), checkpoint_seconds=-1)
    after = torch.load(tmp_path / f"{stage}.checkpoint", weights_only=True)["network"]
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == changed
    assert {path.stem for path in tmp_path.glob("*.safetensors")} == changed


@pytest.mark.parametrize("other", [{"lr": 1e-4}, {"seen_before": 8}, {"still_frames": 8, "clip_frames": 24}])
def test_a_checkpoint_of_another_run_is_not_gone_on_from(data, tmp_path, other):
    run(data, tmp_path)
    with pytest.raises(StoryError, match="other settings"):
        run(data, tmp_path, replace(CONFIG, **other))


def test_muon_steps_as_far_in_every_direction_of_a_matrix():
    weight, bias = torch.nn.Parameter(torch.zeros(8, 16)), torch.nn.Parameter(torch.zeros(8))
    optimizer = optimizer_for([weight, bias], FitSettings(samples=1, batch_size=1, optimizer="muon"))
    steep = torch.diag(torch.logspace(0, -2, 8))  # from the steepest direction to the flattest
    weight.grad, bias.grad = steep @ torch.nn.init.orthogonal_(torch.empty(8, 16)), torch.ones(8)
    optimizer.step()
    steps = torch.linalg.svdvals(weight.detach())
    assert steps.max() / steps.min() < 2
    assert bias.detach().unique().numel() == 1


@pytest.mark.parametrize("quick", [True, False])
def test_muon_multiplies_in_bf16_only_where_that_is_quick(monkeypatch, quick):
    real = muon.zeropower_via_newtonschulz
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(real, "func", real))  # as timm has it
    monkeypatch.setattr(fit.precision, "quick_in_bf16", lambda device: quick)
    fit.orthogonalise_in_fp32.cache_clear()
    optimizer_for([torch.nn.Parameter(torch.zeros(8, 16))], FitSettings(samples=1, batch_size=1, optimizer="muon"))
    fit.orthogonalise_in_fp32.cache_clear()  # for the tests to come
    orthogonal = muon.zeropower_via_newtonschulz(torch.eye(8), 5, [(3.4445, -4.7750, 2.0315)])
    assert orthogonal.dtype == (torch.bfloat16 if quick else torch.float32)


def test_another_seed_trains_on_other_scenes(assets, tmp_path):
    data = video.Data(assets=assets)
    first, again, other = (
        video._world(data, tmp_path / name, replace(CONFIG, seed=seed))[0]
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again and not set(first) & set(other)
    with pytest.raises(StoryError, match="other data"):
        video._world(data, tmp_path / "first", replace(CONFIG, seed=1))


def test_another_seed_is_another_training_of_the_same_networks(data, tmp_path):
    def trained(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        networks, out = Denoiser(UNET, STRUCTURE), tmp_path / str(seed)
        for _ in train(replace(CONFIG, seed=seed), networks.unet, networks.structure, data, out, empty_context=EMPTY):
            pass
        return load_file(out / "unet.safetensors")

    first, other = trained(0), trained(1)
    assert sum(not torch.equal(first[name], other[name]) for name in first) > len(first) / 2


def test_what_is_hard_can_be_drawn_more_often(assets, tmp_path):
    often = video.Data(assets=assets, often={"sleep": 1e6}, stills=3, clips=0)
    captions, shards, _ = video._world(often, tmp_path / "often", CONFIG)
    assert shards == 1 and all(re.search("sleep|slept|nap|lies|lying|lay", told) for told in captions)
    with pytest.raises(StoryError, match="other data"):
        video._world(replace(often, often=None), tmp_path / "often", CONFIG)
    with pytest.raises(StoryError, match="can ski"):
        video._world(replace(often, often={"ski": 2}), tmp_path / "other", CONFIG)
    assert not (tmp_path / "other").exists()


def test_built_in_weights_are_trained_on_and_know_how_much_they_have_seen(tmp_path):
    table = tmp_path / "told.csv"
    clip = next((config.EXAMPLES / "clips").glob("*.mp4"))
    table.write_text(f"path,caption\n{clip},a fox walks\n")
    asked = TrainConfig(still_frames=0, clip_frames=16, batch=16, still_share=0, lr=1e-5)
    out = video.train_video(video.Data(videos=[table]), tmp_path / "out", asked, further=True, device="cpu")
    built_in = load_file(video.BUILT_IN_UNET)
    trained = load_file(out / "unet.safetensors")
    assert video.frames_seen(out / "unet.safetensors") == video.frames_seen(video.BUILT_IN_UNET) + 16
    far = max((trained[key].float() - built_in[key].float()).abs().max().item() for key in built_in)
    assert 0 < far < 1e-2
    assert (out / "samples").exists()
    table.write_text(f"path,caption\n{clip},a wolf walks\n")
    with pytest.raises(StoryError, match="other data"):
        video.train_video(video.Data(videos=[table]), tmp_path / "out", asked)


def test_a_batch_that_is_no_whole_number_of_clips_is_refused(data, tmp_path):
    with pytest.raises(StoryError, match="cannot be dealt out"):
        run(data, tmp_path, replace(CONFIG, batch=6))


def test_the_rate_warms_up_holds_and_falls_to_a_hundredth():
    config = TrainConfig(still_frames=1000, clip_frames=0, batch=10, warmup=100, cooldown=0.5, lr=1.0).fitting()
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(400, config) == pytest.approx(1.0)
    assert learning_rate(750, config) == pytest.approx(0.505)
    assert learning_rate(1000, config) == pytest.approx(0.01)


def test_varied_depth_stays_in_range_and_keeps_the_foreground_in_front():
    generator = torch.Generator().manual_seed(0)
    depth = torch.linspace(0, 0.5, 64)[:, None].expand(8, 1, 2, 64, 64).clone()
    depth[:, :, :, 20:40, 20:40] = 0.9
    mask = torch.zeros(8, 1, 2, 8, 8)
    mask[..., 2:5, 2:5] = 1
    varied = vary_structure(depth, mask, generator)
    assert varied.min() >= 0 and varied.max() <= 1
    assert (varied[..., 30, 30] > varied[..., 30, 55]).all()
    assert not torch.allclose(varied[0], varied[1])


def test_depth_keeps_its_layout_where_nothing_is_known_to_be_foreground():
    slopes = torch.stack([torch.linspace(0, 1, 64).expand(2, 64, 64).mT ** power for power in (1, 2, 3, 4)])[:, None]
    for seed in range(8):
        flipped = torch.cat([slopes, 1 - slopes])
        varied = vary_structure(flipped, torch.zeros(8, 1, 2, 8, 8), torch.Generator().manual_seed(seed))
        for before, after in zip(flipped, varied, strict=True):
            assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.8


@pytest.mark.parametrize("predicts", ["v", "eps"])
def test_the_loss_of_a_network_that_says_nothing_is_the_weighted_variance_of_its_target(data, predicts):
    generator = torch.Generator().manual_seed(1)
    batch = pick_batch(Shards(data / "stills"), 256, generator)
    batch["mask"] = torch.zeros_like(batch["mask"])
    silent = Denoiser(UNET, STRUCTURE)
    config = replace(CONFIG, snr_limit=2.0, predicts=predicts)
    only = cosine()[300:301]  # a schedule of one time
    loss = denoising_loss(silent, batch, only, EMPTY, config, generator, "cpu")
    alpha_bar, variance = only.item(), batch["latents"].float().square().mean().item()
    snr = alpha_bar / (1 - alpha_bar)
    # v = alpha eps - sigma x0
    expected = 2 / (snr + 1) * (alpha_bar + (1 - alpha_bar) * variance) if predicts == "v" else 2 / snr
    assert loss.item() == pytest.approx(expected, rel=0.02)


def test_text_alone_is_trained_without_structure(data):
    batch = pick_batch(Shards(data / "stills"), 4, torch.Generator().manual_seed(1))
    denoiser = Denoiser(UNET, STRUCTURE)
    denoiser.structure.forward = None  # not to be called
    config = replace(CONFIG, stage="base")
    denoising_loss(denoiser, batch, cosine(), EMPTY, config, torch.Generator(), "cpu").backward()
    assert all(p.grad is None for p in denoiser.structure.parameters())


@pytest.mark.parametrize(
    ("command", "little", "made"),
    [
        ("train-autoencoder", ("--crops", "12"), "autoencoder.safetensors"),
        ("train-retrieval", ("--clips", "32", "--samples", "32"), "retrieval.safetensors"),
    ],
)
def test_the_tools_of_the_built_in_model_are_trained_by_a_command_each(run, assets, tmp_path, command, little, made):
    done = run(command, "-o", "new/tools", "--assets", assets, *little)
    assert done.code == 0, done.err
    assert Path(done.out.strip()) == Path("new/tools") / made
    assert [path.name for path in (tmp_path / "new/tools").iterdir()] == [made]
