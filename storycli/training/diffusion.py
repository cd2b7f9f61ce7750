"""Stages 1 and 2 of the paper: the text-to-video U-Net, and the structure encoder that guides it.

``base`` trains the U-Net, ``structure`` the structure encoder beside a frozen U-Net, as the paper does;
``joint`` trains both at once, which is how the built-in model was made: with hours of a CPU instead of weeks of
many GPUs, depth explains the layout from the start and the U-Net's effort goes into appearance.

Started by ``torchrun``, every process takes its share of each batch and the gradients are averaged. On a CPU one
process a core is a quarter faster than one process with as many threads.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import precision
from models.sampler import clip_noise
from models.schedule import cosine, min_snr_weight, q_sample, v_from_eps
from models.structure import StructureConfig, StructureEncoder
from models.unet import UNetConfig, VideoUNet
from models.weights import save
from storycli import processes
from storycli.errors import StoryError
from storycli.training.dataset import Shards
from storycli.training.fit import FitSettings, Progress, averaged, random_source, steps

TRAINS = {"base": ("unet",), "structure": ("structure",), "joint": ("unet", "structure")}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run. Everything is counted in frames seen."""

    stage: str = "joint"  # base | structure | joint
    predicts: str = "v"  # v | eps
    still_frames: int  # first, pictures: they teach appearance at the least cost
    clip_frames: int  # then, clips, with stills mixed in
    batch: int = 32  # frames per step, in stills or in whole clips, over all processes
    still_share: float = 0.25  # share of steps that use stills in the second part
    lr: float = 1e-3
    warmup: int = 5_000
    cooldown: float = 0.3  # the last share of the run, over which the rate falls
    weight_decay: float = 0.01
    optimizer: str = "muon"  # muon | adamw
    average_over: int = 64_000
    drop_text: float = 0.1
    drop_structure: float = 0.15
    foreground_weight: float = 2.0
    snr_limit: float = 5.0  # min-SNR weighting (Hang et al. 2023); infinity for none
    shared_noise: float = 0.5  # share of the noise variance that all frames of a clip have in common
    seed: int = 0
    seen_before: int = 0  # frames that the networks had seen when this run began
    compile: bool = False  # the networks, once for stills and once for clips: minutes, then quicker steps

    @property
    def frames(self) -> int:
        return self.still_frames + self.clip_frames

    def fitting(self) -> FitSettings:
        return FitSettings(
            samples=self.frames,
            batch_size=self.batch,
            learning_rate=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
            warmup=self.warmup,
            cooldown=self.cooldown,
            average_over=self.average_over,
            seed=self.seed,
        )


def train(
    config: TrainConfig,
    unet: UNetConfig | VideoUNet,
    structure: StructureConfig | StructureEncoder,
    data: Path,
    out: Path,
    *,
    alpha_bar: Tensor | None = None,
    empty_context: tuple[Tensor, Tensor],
    device: torch.device | str = "cpu",
    checkpoint_seconds: float = 300,
    on_checkpoint: Callable[["Denoiser", int], None] | None = None,
) -> Iterator[Progress]:
    """Train on the shards in ``data/stills`` and ``data/clips`` until ``config.frames`` have been seen.

    ``out`` receives ``STAGE.checkpoint`` (all that a resumed run needs to repeat the uninterrupted one) and the
    averaged weights of what the stage trains, ``unet.safetensors`` and ``structure.safetensors``, which
    ``on_checkpoint`` is then called with.
    ``empty_context`` is the encoded empty prompt, (l, d), and its word mask (l,). Networks may be given as sizes, to
    start from nothing, or as themselves, to go on. Raises StoryError for a batch that cannot be dealt out evenly.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    denoiser = Denoiser(unet, structure).to(device, memory_format=torch.channels_last)
    denoiser.freeze_all_but(config.stage)
    average = averaged(denoiser)
    if config.compile:
        denoiser.unet.compile(dynamic=False)
        denoiser.structure.compile(dynamic=False)
    alpha_bar = cosine() if alpha_bar is None else alpha_bar
    stills = Shards(data / "stills") if config.still_frames or config.still_share else None
    clips = Shards(data / "clips") if config.clip_frames else None
    check_batch(config.batch, [shards.frames for shards in (stills, clips) if shards])
    rank, _ = processes.place()

    def loss(denoiser: nn.Module, seen: int) -> Tensor:
        source, count = pick_source(config, seen, stills, clips)
        generator = random_source(config.seed, seen, 1 + rank)
        batch = pick_batch(source, count, generator)
        with precision.training(device):
            return denoising_loss(denoiser, batch, alpha_bar, empty_context, config, generator, device)

    def publish(seen: int) -> None:
        run = asdict(config) | {"seen": config.seen_before + seen}
        history = {"training": json.dumps(run), "prediction": config.predicts}
        for name in TRAINS[config.stage]:
            network = getattr(average, name)
            save(network, out / f"{name}.safetensors", network.config, dtype=torch.float16, **history)
        if on_checkpoint:
            on_checkpoint(average, seen)

    yield from steps(
        denoiser,
        average,
        loss,
        config.fitting(),
        checkpoint=out / f"{config.stage}.checkpoint",
        every=checkpoint_seconds,
        on_checkpoint=publish,
        belongs_to=asdict(config),
    )


def check_batch(batch: int, lengths: list[int]) -> None:
    """Raises StoryError unless ``batch`` frames are whole samples of each length, as many for every process."""
    _, count = processes.place()
    if wrong := [length for length in lengths if batch % (length * count)]:
        raise StoryError(
            f"{batch} frames in a step cannot be dealt out in samples of {wrong[0]} to {count} processes",
            f"choose a multiple of {wrong[0] * count}",
        )


class Denoiser(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, unet: UNetConfig | VideoUNet, structure: StructureConfig | StructureEncoder):
        super().__init__()
        self.unet = VideoUNet(unet) if isinstance(unet, UNetConfig) else unet
        self.structure = StructureEncoder(structure) if isinstance(structure, StructureConfig) else structure

    def freeze_all_but(self, stage: str) -> None:
        """Leave only what a stage trains to be trained."""
        self.requires_grad_(False)
        for name in TRAINS[stage]:
            getattr(self, name).requires_grad_(True)


def pick_source(config: TrainConfig, seen: int, stills: Shards | None, clips: Shards | None) -> tuple[Shards, int]:
    """Stills or clips, the same in every process, and how many of them make this process's share of a batch."""
    generator = random_source(config.seed, seen)
    use_stills = seen < config.still_frames or torch.rand((), generator=generator) < config.still_share
    source = stills if use_stills and stills is not None else clips
    _, count = processes.place()
    return source, config.batch // source.frames // count


def pick_batch(shards: Shards, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random samples: latents and context as stored, depth (b,1,f,H,W) in [0, 1], mask (b,1,f,h,w) in [0, 1]."""
    batch = shards[torch.randint(len(shards), (count,), generator=generator).tolist()]
    batch["depth"] = batch["depth"][:, None].float() / 255
    batch["mask"] = batch["mask"][:, None].float() / 255
    return batch


def denoising_loss(
    denoiser: Denoiser,
    batch: dict[str, Tensor],
    alpha_bar: Tensor,
    empty_context: tuple[Tensor, Tensor],
    config: TrainConfig,
    generator: torch.Generator,
    device: torch.device | str,
) -> Tensor:
    """E || v - v_theta(x_t; text, depth, t) ||^2, weighted by SNR and foreground; some text and structure left out.

    A network that predicts eps is asked for that instead, with weights that mean the same for its clean sample.
    """
    x0 = batch["latents"].float()
    b = len(x0)
    t = torch.randint(len(alpha_bar), (b,), generator=generator)
    noise = clip_noise(x0.shape, config.shared_noise, generator)
    x_t = q_sample(x0, t, noise, alpha_bar)
    target = v_from_eps(noise, x0, t, alpha_bar) if config.predicts == "v" else noise

    no_text = torch.rand(b, generator=generator) < config.drop_text
    context = torch.where(no_text[:, None, None], empty_context[0].to(batch["context"]), batch["context"]).float()
    words = torch.where(no_text[:, None], empty_context[1], batch["words"])
    depth = vary_structure(batch["depth"], batch["mask"], generator)
    with_structure = (torch.rand(b, generator=generator) >= config.drop_structure).float()

    focus = 1 + config.foreground_weight * batch["mask"]
    weight = min_snr_weight(x0, t, alpha_bar, config.snr_limit, config.predicts) * focus / focus.mean()

    # All copies come before the forward pass: one after it would wait for the device to finish that.
    on_cpu = x_t, target, weight, t, context, words, depth, with_structure[:, None, None, None, None]
    x_t, target, weight, t, context, words, depth, kept = (value.to(device) for value in on_cpu)
    features = None
    if config.stage != "base":
        features = [feature * kept for feature in denoiser.structure(2 * depth - 1)]
    predicted = denoiser.unet(x_t, t, context, features, words).float()
    return ((predicted - target).square() * weight).mean()


def vary_structure(depth: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """Depth as it is met in use: of any contrast, blurred, of the foreground alone, or before other scenery.

    depth (b,1,f,H,W) in [0, 1], mask (b,1,f,h,w) in [0, 1] -> depth of the same shape. A retrieved clip rarely shows
    the place that the prompt names; the scenery of the sample before in the batch stands in for that, its own where it
    is alone. Where nothing is known to be foreground, nothing is taken away.
    """
    b = len(depth)
    foreground = F.interpolate(mask, size=depth.shape[2:], mode="trilinear") > 0.5
    foreground |= ~foreground.flatten(1).any(1)[:, None, None, None, None]
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
