"""``train-decoder``: the built-in decoder, learnt anew on latents as the U-Net leaves them, against a critic.

A decoder that knows true latents alone smears what it is not sure of, and what a U-Net draws is never sure. So half of
its pictures come from latents that were *redrawn*: noised up to a random time and denoised by the model, as SDEdit does
(Meng et al. 2022), which leaves them close enough to the truth to know what should have come out. A critic of patches
(Isola et al. 2017), whose features are to match as well (Wang et al. 2018), says what is not drawn cleanly.

Encoder and U-Net stay as they are, and so do latents and the characters that were learnt in them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models import precision
from models.autoencoder import BLOCK
from models.sampler import ddim, from_v, guided
from models.schedule import q_sample
from models.times import dpm_times
from models.video_model import VideoModel
from models.weights import load_autoencoder, save, write_tensors
from storycli import catalogue, digest, processes
from storycli.render import load_model
from storycli.training import autoencoder as codec
from storycli.training import dataset
from storycli.training.dataset import Shards, world_samples
from storycli.training.fit import FitSettings, averaged, steps
from storycli.training.video import AUTOENCODER, Report
from storycli.world.generator import World, assets_in

SETTINGS = FitSettings(
    samples=30_000, batch_size=12, learning_rate=4e-4, weight_decay=1e-4, warmup=600, average_over=1200
)
PICTURES = 3072
FIRST_SEED = 310_000_000  # scenes of its own
SHARD = 128  # pictures
STEPS, FROM = 12, (4, 10)  # of the sampler, and the step that a picture is redrawn from: the first, and one too late
GUIDANCE, TAU = (1.5, 2.0, 3.0), 0.2  # as people use them
AT_ONCE = 32  # pictures that are redrawn in the same way
CRITIC, FEATURES = 0.03, 0.12  # weights of what the critic says, and of its features, beside the difference of colours


class Critic(nn.Module):
    """Images (n, 3, H, W) -> whether they look drawn, for each patch (n, 1, H/8, W/8), and the features it goes by."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(3, width, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(4 * width, 4 * width, 3, padding=1)),
            ]
        )
        self.last = spectral_norm(nn.Conv2d(4 * width, 1, 3, padding=1))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            images = F.leaky_relu(layer(images), 0.2)
            features.append(images)
        return self.last(images), features


def train(
    assets: Path | None,
    out: Path,
    *,
    settings: FitSettings = SETTINGS,
    pictures: int = PICTURES,
    start: Path = AUTOENCODER,
    workers: int = 1,
    device: str = "auto",
    report: Report | None = None,
) -> Path:
    """Train the decoder of ``start`` on and write ``out/autoencoder.safetensors`` (half precision); returns its path.

    ``assets`` is the folder of the world's emoji, which are fetched where it is not there. What is redrawn is kept in
    ``out/redrawn``, and a run that was stopped goes on where it was.
    """
    report = report or (lambda stage, done, total: None)
    with processes.together(precision.pick_device(device)) as on:
        if processes.first():
            assets = assets_in(out, assets)
            for done, _ in enumerate(prepare(out / "redrawn", assets, pictures, workers), 1):
                report("prepare", done, -(-pictures // SHARD))
        processes.wait()
        shards = Shards(out / "redrawn")
        torch.manual_seed(settings.seed)
        autoencoder = load_autoencoder(start).float()
        for name, parameter in autoencoder.named_parameters():
            parameter.requires_grad_("decoder" in name)
        networks = nn.ModuleDict({"autoencoder": autoencoder, "critic": Critic()})
        networks, average = networks.to(on, memory_format=torch.channels_last), averaged(networks)

        def loss(networks: nn.Module, seen: int) -> Tensor:
            drawn = batch(shards, settings.batch_size, np.random.default_rng((settings.seed, seen)))
            with precision.training(on):
                return adversarial_loss(networks, *(part.to(on) for part in drawn))

        belongs_to = {"pictures": len(shards), "start": digest.file(start)}
        how = dict(checkpoint=out / "decoder.checkpoint", belongs_to=belongs_to)
        for now in steps(networks, average, loss, settings, **how):
            report("train", now.seen, now.samples)
        made = average["autoencoder"].cpu()
        if processes.first():
            held_out = codec.stills(World(assets), range(10**8, 10**8 + 96), "held_out")[0]
            told = dict(psnr=f"{codec.psnr(made, held_out):.2f}")
            save(made, out / "autoencoder.safetensors", made.config, dtype=torch.float16, **told)
    return out / "autoencoder.safetensors"


def adversarial_loss(networks: nn.Module, z: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """The decoder's loss and its critic's, each with gradients for its own network alone.

    Latents (n, c, h, w), true pixels (n, 3, H, W), mask (n, 1, H, W) of what counts most.
    """
    decoder, critic = networks["autoencoder"].decode, networks["critic"]
    drawn = decoder(z).float()
    critic.requires_grad_(False)
    said, seen = critic(drawn)
    critic.requires_grad_(True)
    real, expected = critic(truth)
    fake, _ = critic(drawn.detach())
    unlike = [(a - b.detach()).abs().mean() / b.detach().abs().mean() for a, b in zip(seen, expected, strict=True)]
    convicted = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    rebuilt = codec.difference(drawn, truth, mask)
    return rebuilt + FEATURES * torch.stack(unlike).mean() - CRITIC * said.mean() + convicted


def batch(shards: Shards, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """This process's share of ``size`` crops: latents, half of them redrawn, half with some noise; pixels; masks."""
    rank, world = processes.place()
    half, cells = size // 2, codec.CROP // BLOCK
    shown = shards[rng.integers(0, len(shards), size)]
    latents = torch.cat([shown["latents"][:half], shown["redrawn"][half:]]).float()
    corners = rng.integers(0, latents.shape[-1] - cells + 1, (size, 2))
    z = crops(latents, corners, cells)
    z[:half] += codec.LATENT_NOISE * torch.from_numpy(rng.standard_normal(z[:half].shape, np.float32))
    pixels = crops(shown["pixels"], BLOCK * corners, codec.CROP).float() / 127.5 - 1
    mask = crops(shown["mask"], BLOCK * corners, codec.CROP).float()
    mine = slice(rank, None, world)
    return z[mine], pixels[mine].contiguous(memory_format=torch.channels_last), mask[mine, None]


def crops(images: Tensor, corners: np.ndarray, side: int) -> Tensor:
    """Squares of images (n, ..., H, W), each from its own corner (n, 2)."""
    cut = [image[..., top : top + side, left : left + side] for image, (top, left) in zip(images, corners, strict=True)]
    return torch.stack(cut)


def prepare(folder: Path, assets: Path, pictures: int, workers: int = 1) -> Iterator[Path]:
    """Redraw stills of the world into shards under ``folder``, which are yielded as they are done; done ones stay."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset.claim(folder, ["redrawn", SHARD, FIRST_SEED, pictures, catalogue.named("storybook").identity()])
    jobs = []
    for index, start in enumerate(range(0, pictures, SHARD)):
        path = folder / f"{index:05d}.safetensors"
        if not path.exists():
            jobs.append((path, assets, range(FIRST_SEED + start, FIRST_SEED + min(start + SHARD, pictures))))
    yield from processes.each(_shard, jobs, workers)


def _shard(job: tuple[Path, Path, range]) -> Path:
    path, assets, seeds = job
    from storycli.depth import DepthEstimator

    model, rng = load_model("storybook"), np.random.default_rng(seeds.start)
    samples = list(world_samples(assets, "core", seeds, 1, estimate=DepthEstimator("storybook", "cpu").estimate))
    frames = torch.from_numpy(np.concatenate([sample.frames for sample in samples])).permute(0, 3, 1, 2)
    depth = torch.from_numpy(np.concatenate([sample.depth for sample in samples])).float() / 255
    with torch.inference_mode(), precision.autocast("cpu"):
        latents = model.autoencoder.encode(frames.float() / 127.5 - 1).float()
        groups = (slice(i, i + AT_ONCE) for i in range(0, len(samples), AT_ONCE))
        captions = [sample.caption for sample in samples]
        again = [redraw(model, latents[some], depth[some], captions[some], rng) for some in groups]
    mask = torch.from_numpy(np.concatenate([sample.mask for sample in samples]))
    made = {"latents": latents.half(), "redrawn": torch.cat(again).half(), "pixels": frames, "mask": mask}
    write_tensors(path, {name: tensor.contiguous() for name, tensor in made.items()}, {})
    return path


def redraw(model: VideoModel, z: Tensor, depth: Tensor, captions: list[str], rng: np.random.Generator) -> Tensor:
    """Stills' latents (n, c, h, w) as the model draws them from where noise leaves their outlines; depth (n, H, W)."""
    times = dpm_times(STEPS, len(model.alpha_bar))[int(rng.integers(*FROM)) :]
    context, words = model.text.read([*captions, *("" for _ in captions)])
    features = [torch.cat([feature, feature]) for feature in model.structure(2 * depth[:, None, None] - 1)]

    def predict(x: Tensor, t: Tensor) -> Tensor:
        structure = features if t[0] >= TAU * len(model.alpha_bar) else None
        return model.unet(x, t, context, structure, words).float()

    denoise = guided(from_v(predict, model.alpha_bar), float(rng.choice(GUIDANCE)))
    clean = z[:, :, None]
    eps = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
    x = q_sample(clean, torch.full((len(z),), times[0]), eps, model.alpha_bar)
    *_, (_, _, redrawn) = ddim(denoise, x, model.alpha_bar, times=times[:-1])
    return redrawn[:, :, 0]
