"""Stages 1 and 2 of the paper: the text-to-video U-Net, and the structure encoder that guides it.

``base`` trains the U-Net, ``structure`` the structure encoder beside a frozen U-Net, as the paper does;
``joint`` trains both at once, which is how the built-in model was made: with hours of a CPU instead of weeks of
many GPUs, depth explains the layout from the start and the U-Net's effort goes into appearance.

Started by ``torchrun``, every process takes its share of each batch and the gradients are averaged. On a CPU one
process a core is a quarter faster than one process with as many threads.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from models import precision
from models.sampler import clip_noise
from models.schedule import cosine, q_sample, signal_and_noise, v_from_eps
from models.structure import StructureConfig, StructureEncoder
from models.unet import UNetConfig, VideoUNet
from models.weights import save
from storycli.dataset import Shards

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. Everything is counted in frames seen, so batch sizes may change between runs."""

    stage: str = "joint"  # base | structure | joint
    still_frames: int  # first, pictures: they teach appearance at the least cost
    clip_frames: int  # then, clips, with stills mixed in
    batch: int = 32  # frames per step, in stills or in whole clips, over all processes
    still_share: float = 0.25  # share of steps that use stills in the second part
    lr: float = 1e-3
    warmup: int = 5_000
    cooldown: float = 0.3  # the last share of the run, over which the rate falls to zero
    weight_decay: float = 0.01
    ema: float = 0.9995
    drop_text: float = 0.1
    drop_structure: float = 0.15
    foreground_weight: float = 2.0
    snr_limit: float = 5.0  # min-SNR weighting (Hang et al. 2023)
    shared_noise: float = 0.5  # share of the noise variance that all frames of a clip have in common
    seed: int = 0

    @property
    def frames(self) -> int:
        return self.still_frames + self.clip_frames

    def rate(self, seen: int) -> float:
        warm = min(1.0, (seen + self.batch) / self.warmup)
        return self.lr * warm * min(1.0, (1 - seen / self.frames) / self.cooldown + 1e-3)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: frames seen of how many, the smoothed loss, frames per second."""

    seen: int
    frames: int
    loss: Tensor  # (), where the training runs: reading it waits for the device
    speed: float


def train(
    config: TrainConfig,
    unet: UNetConfig | VideoUNet,
    structure: StructureConfig | StructureEncoder,
    data: Path,
    out: Path,
    *,
    alpha_bar: Tensor | None = None,
    empty_context: tuple[Tensor, Tensor],
    device: str = "cpu",
    checkpoint_seconds: float = 300,
    on_checkpoint: Callable[[Path], None] | None = None,
) -> Iterator[Progress]:
    """Train on the shards in ``data/stills`` and ``data/clips`` until ``config.frames`` have been seen.

    ``out`` receives ``checkpoint.pt`` (all that a resumed run needs to repeat the uninterrupted one) and the averaged
    weights ``unet.safetensors`` and ``structure.safetensors``. ``empty_context`` is the encoded empty prompt, (l, d),
    and its word mask (l,). Networks may be given as sizes, to start from nothing, or as themselves, to go on.
    """
    out.mkdir(parents=True, exist_ok=True)
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    torch.manual_seed(config.seed)
    denoiser = Denoiser(unet, structure).to(device, memory_format=torch.channels_last)
    trained = denoiser.trainable(config.stage)
    average = deepcopy(denoiser).requires_grad_(False)
    optimizer = torch.optim.AdamW(trained, config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True)
    alpha_bar = cosine() if alpha_bar is None else alpha_bar
    stills = Shards(data / "stills") if config.still_frames or config.still_share else None
    clips = Shards(data / "clips") if config.clip_frames else None

    seen, loss = 0, None
    if (out / "checkpoint.pt").exists():
        seen = _resume(out / "checkpoint.pt", denoiser, average, optimizer)
        log.info("going on after %d frames", seen)
    started, start, saved = time.monotonic(), seen, time.monotonic()
    while seen < config.frames:
        source, count = pick_source(config, seen, stills, clips)
        generator = torch.Generator().manual_seed(config.seed * 2**40 + seen + rank)
        batch = pick_batch(source, max(1, count // processes), generator)
        for group in optimizer.param_groups:
            group["lr"] = config.rate(seen)
        with precision.training(device):
            value = denoising_loss(denoiser, batch, alpha_bar, empty_context, config, generator, device)
        value.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += batch["latents"].shape[0] * batch["latents"].shape[2] * processes
        update_average(average, denoiser, min(config.ema, (seen + 1) / (seen + 20 * config.batch)))
        loss = value.detach() if loss is None else torch.lerp(loss, value.detach(), 0.02)

        done = seen >= config.frames
        if done or time.monotonic() - saved > checkpoint_seconds:
            saved = time.monotonic()
            if rank == 0:
                _checkpoint(out, denoiser, average, optimizer, seen, config)
                if on_checkpoint:
                    on_checkpoint(out)
        yield Progress(seen, config.frames, loss, (seen - start) / (time.monotonic() - started))


class Denoiser(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, unet: UNetConfig | VideoUNet, structure: StructureConfig | StructureEncoder):
        super().__init__()
        self.unet = VideoUNet(unet) if isinstance(unet, UNetConfig) else unet
        self.structure = StructureEncoder(structure) if isinstance(structure, StructureConfig) else structure

    def trainable(self, stage: str) -> list[nn.Parameter]:
        networks = {"base": [self.unet], "structure": [self.structure], "joint": [self.unet, self.structure]}[stage]
        self.requires_grad_(False)
        for network in networks:
            network.requires_grad_(True)
        return [p for p in self.parameters() if p.requires_grad]


def pick_source(config: TrainConfig, seen: int, stills: Shards | None, clips: Shards | None) -> tuple[Shards, int]:
    """Stills or clips, the same in every process, and how many of them make a batch."""
    generator = torch.Generator().manual_seed(config.seed * 2**40 + seen)
    use_stills = seen < config.still_frames or torch.rand((), generator=generator) < config.still_share
    source = stills if use_stills and stills is not None else clips
    return source, config.batch // source.frames


def pick_batch(shards: Shards, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random samples: latents and context as stored, depth (b,1,f,H,W) in [0, 1], mask (b,1,f,h,w) in [0, 1]."""
    batch = shards[torch.randint(len(shards), (count,), generator=generator).tolist()]
    batch["depth"] = batch["depth"][:, None].float() / 255
    batch["mask"] = batch["mask"][:, None].float() / 255
    return batch


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Give every process of a ``torchrun`` job the mean of their gradients."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / dist.get_world_size()).split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])


def denoising_loss(
    denoiser: Denoiser,
    batch: dict[str, Tensor],
    alpha_bar: Tensor,
    empty_context: tuple[Tensor, Tensor],
    config: TrainConfig,
    generator: torch.Generator,
    device: str,
) -> Tensor:
    """E || v - v_theta(x_t; text, depth, t) ||^2, weighted by SNR and foreground; some text and structure left out."""
    x0 = batch["latents"].float()
    b = len(x0)
    t = torch.randint(len(alpha_bar), (b,), generator=generator)
    noise = clip_noise(x0.shape, config.shared_noise, generator)
    x_t, target = q_sample(x0, t, noise, alpha_bar), v_from_eps(noise, x0, t, alpha_bar)

    no_text = torch.rand(b, generator=generator) < config.drop_text
    context = torch.where(no_text[:, None, None], empty_context[0].to(batch["context"]), batch["context"]).float()
    words = torch.where(no_text[:, None], empty_context[1], batch["words"])
    depth = vary_structure(batch["depth"], batch["mask"], generator)
    with_structure = (torch.rand(b, generator=generator) >= config.drop_structure).float()

    x_t, target, t, context, words, depth = (v.to(device) for v in (x_t, target, t, context, words, depth))
    features = [
        feature * with_structure.to(device)[:, None, None, None, None] for feature in denoiser.structure(2 * depth - 1)
    ]
    v = denoiser.unet(x_t, t, context, features, words).float()

    signal, sigma = signal_and_noise(alpha_bar, t.cpu(), x0)
    snr = (signal / sigma).square()
    weight = snr.clamp(max=config.snr_limit) / (snr + 1)  # min-SNR for a network that predicts v
    focus = 1 + config.foreground_weight * batch["mask"]
    weight = weight * focus / focus.mean()
    return ((v - target).square() * weight.to(device)).mean()


def vary_structure(depth: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """Depth as it is met in use: of any contrast, blurred, of the foreground alone, or before other scenery.

    depth (b,1,f,H,W) in [0, 1], mask (b,1,f,h,w) in [0, 1] -> depth of the same shape. A retrieved clip rarely shows
    the place that the prompt names; the scenery of another sample stands in for that.
    """
    b = len(depth)
    foreground = F.interpolate(mask, size=depth.shape[2:], mode="trilinear") > 0.5
    ground = depth.median(dim=-1, keepdim=True).values.expand_as(depth)
    scenery = torch.where(foreground, ground, depth).roll(1, dims=0)
    kind = torch.rand(b, generator=generator)[:, None, None, None, None]
    depth = torch.where((kind < 0.2) & ~foreground, torch.zeros_like(depth), depth)
    depth = torch.where((kind >= 0.2) & (kind < 0.35) & ~foreground, scenery, depth)

    gamma = torch.empty(b).uniform_(-0.35, 0.35, generator=generator).exp()[:, None, None, None, None]
    low, high = depth.amin((1, 2, 3, 4), keepdim=True), depth.amax((1, 2, 3, 4), keepdim=True)
    depth = ((depth - low) / (high - low).clamp(min=1e-3)).pow(gamma)
    if torch.rand((), generator=generator) < 0.3:
        depth = F.avg_pool3d(depth, (1, 5, 5), stride=1, padding=(0, 2, 2), count_include_pad=False)
    return depth


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def _checkpoint(
    out: Path, denoiser: Denoiser, average: Denoiser, optimizer: torch.optim.Optimizer, seen: int, config: TrainConfig
) -> None:
    state = {
        "denoiser": denoiser.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seen": seen,
    }
    torch.save(state, out / "checkpoint.tmp")
    os.replace(out / "checkpoint.tmp", out / "checkpoint.pt")
    history = {"training": json.dumps(asdict(config) | {"seen": seen}), "prediction": "v"}
    save(average.unet, out / "unet.safetensors", average.unet.config, dtype=torch.float16, **history)
    save(average.structure, out / "structure.safetensors", average.structure.config, dtype=torch.float16, **history)


def _resume(path: Path, denoiser: Denoiser, average: Denoiser, optimizer: torch.optim.Optimizer) -> int:
    state = torch.load(path, map_location="cpu", weights_only=True)
    denoiser.load_state_dict(state["denoiser"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["seen"]
