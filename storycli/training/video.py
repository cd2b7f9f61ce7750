"""``train-base`` and ``train-structure``: from captioned video, or the storybook world, to the two networks.

``torchrun --nproc-per-node N -m storycli train-base ...`` trains with N processes, one to a GPU or to a core.
"""

import csv
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models import precision, structure, unet
from models.checkpoint import load
from models.schedule import cosine
from models.structure import StructureConfig, StructureEncoder
from models.unet import UNetConfig, VideoUNet
from models.video_model import VideoModel
from models.weights import load_autoencoder, load_minilm, read_metadata
from storycli import catalogue, processes
from storycli.errors import StoryError
from storycli.library import sources
from storycli.media import filmstrip
from storycli.render import load_model, sample, to_frames
from storycli.training import dataset
from storycli.training.dataset import Shards
from storycli.training.diffusion import Denoiser, TrainConfig, train
from storycli.training.fit import Progress

Report = Callable[[str, int, int], None]  # stage, done, of how many
AUTOENCODER = catalogue.BUILT_IN / "storybook-autoencoder.safetensors"
BUILT_IN_UNET = catalogue.BUILT_IN / "storybook-unet.safetensors"
TOLD_EVERY = 20  # seconds
SHOWN = 4  # clips of a sample sheet
RUNS, SCENES = 200, 1_000_000  # runs with scenes of their own, and how many each draws; judges have those beyond
SAMPLE_STEPS, SAMPLE_GUIDANCE = 12, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What to train on: captioned videos, or, where there are none, scenes of the storybook world."""

    videos: Sequence[Path] = ()
    assets: Path | None = None  # where the world's pictures are, or are to be fetched to
    tier: str = "core"
    often: Mapping[str, float] | None = None  # how many times as frequent actions, and company, of the world are to be
    stills: int = 40_960
    clips: int = 5_120
    workers: int = 1


def train_video(
    data: Data,
    out: Path,
    config: TrainConfig,
    *,
    further: bool = False,
    device: str = "auto",
    report: Report | None = None,
) -> Path:
    """Prepare the data under ``out/data`` and train under ``out``; both go on where they were stopped.

    Leaves ``unet.safetensors`` and ``structure.safetensors`` in ``out``, how the loss fell in ``log.csv``, and a sheet
    of samples for each checkpoint. ``further`` trains the built-in networks on. Else stage ``structure`` starts from
    the U-Net that stage ``base`` left in ``out``, or from the built-in one; the others from nothing. Raises StoryError
    when there is nothing to train on.
    """
    report, first, captions = report or (lambda stage, done, total: None), processes.first(), []
    with processes.together(precision.pick_device(device)) as where:
        if first:
            captions, total, shards = _videos(data, out) if data.videos else _world(data, out, config)
            for done, _ in enumerate(shards, 1):
                report("prepare", done, total)
        processes.wait()

        def show(average: Denoiser, seen: int) -> None:
            sheet(average, config, captions, out / "data", out / "samples" / f"{seen:09d}.jpg")

        networks = _networks(config.stage, out, further)
        if further:
            config = replace(config, seen_before=frames_seen(BUILT_IN_UNET))
        how = dict(empty_context=dataset.empty_context(load_minilm()), device=where, on_checkpoint=show)
        told = time.monotonic()
        for now in train(config, *networks, out / "data", out, **how):
            if first and (time.monotonic() - told > TOLD_EVERY or now.seen >= now.samples):
                told = time.monotonic()
                report("train", now.seen, now.samples)
                _log(out / "log.csv", now)
    return out


def sheet(trained: Denoiser, config: TrainConfig, captions: Sequence[str], data: Path, path: Path) -> None:
    """What the networks make of the first captions and the depth of their clips, or stills before there are clips."""
    clips = Shards(data / ("clips" if config.clip_frames else "stills"))
    depth = clips[range(len(captions))]["depth"][:, None].float() / 255
    model = VideoModel(
        unet=trained.unet,
        structure=trained.structure,
        autoencoder=load_autoencoder(AUTOENCODER),
        text=load_minilm(),
        alpha_bar=cosine(),
        predicts=config.predicts,
        shared_noise=config.shared_noise,
    )
    tau = 1.0 if config.stage == "base" else 0.0
    how = dict(seed=0, steps=SAMPLE_STEPS, guidance=SAMPLE_GUIDANCE, tau=tau)
    rows = {told: to_frames(model, sample(model, told, depth[i, None], **how)) for i, told in enumerate(captions)}
    filmstrip.sheet(rows, path, columns=4)


def frames_seen(weights: Path) -> int:
    """How many frames a U-Net was trained on, as its file says."""
    return json.loads(read_metadata(weights)["training"])["seen"]


def _networks(
    stage: str, out: Path, further: bool
) -> tuple[VideoUNet | UNetConfig, StructureEncoder | StructureConfig]:
    """What to start from: networks, or the sizes of new ones."""
    if further:
        model = load_model("storybook")
        return model.unet, model.structure
    if stage != "structure":
        return unet.STORYBOOK, structure.STORYBOOK
    left = out / "unet.safetensors"  # by stage base
    trained = load(left, VideoUNet, UNetConfig) if left.exists() else load_model("storybook").unet
    return trained, structure.STORYBOOK


def _log(path: Path, now: Progress) -> None:
    """Add a line of progress to a table, under a heading when it is new."""
    row = {"samples": now.seen, "loss": f"{now.loss:.4f}", "samples a second": f"{now.speed:.1f}"}
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def _videos(data: Data, out: Path) -> tuple[list[str], int, Iterator[Path]]:
    """The first captions, how many shards there will be, and the shards as they are done."""
    found = [s for s in sources.find(data.videos) if isinstance(s, sources.Source) and s.told.caption]
    if not found:
        raise StoryError(
            "none of these videos has a caption to learn from", "give a CSV with the columns path and caption"
        )
    pairs = [(source.path, source.told.caption) for source in found]
    dataset.claim(out / "data", [(str(path), caption) for path, caption in pairs])
    encode = load_autoencoder(AUTOENCODER).encode
    how = dict(model="storybook", num_frames=16, fps=8, size=128)
    shards = dataset.prepare_videos(out / "data", pairs, encode, load_minilm(), **how)
    return [told for _, told in pairs[:SHOWN]], 2 * -(-len(pairs) // (dataset.SHARD_FRAMES // 16)), shards


def _world(data: Data, out: Path, config: TrainConfig) -> tuple[list[str], int, Iterator[Path]]:
    """As ``_videos``, of scenes; the emoji they are drawn with are fetched when they are not there.

    A run of another seed draws other scenes, so that networks that are trained further meet new ones.
    """
    from storycli.world.generator import World, assets_in
    from storycli.world.words import load_tables

    actions = load_tables(data.tier).actions
    if unknown := sorted((data.often or {}).keys() - actions - {"companion"}):
        raise StoryError(f"nobody in that world can {unknown[0]}", f"choose among {', '.join(actions)}")
    first = config.seed % RUNS * SCENES
    dataset.claim(out / "data", ["world", data.tier, first, *([data.often] if data.often else [])])
    assets = assets_in(out, data.assets)
    world = World(assets, data.tier, often=data.often)
    how = dict(tier=data.tier, often=data.often, stills=data.stills, clips=data.clips, workers=data.workers)
    shards = dataset.prepare_world(out / "data", assets, AUTOENCODER, first_seed=first, **how)
    first += dataset.CLIP_SEEDS if config.clip_frames else 0
    seeds = range(first, first + SHOWN)
    captions = [world.caption(world.scene(seed), random.Random(seed)) for seed in seeds]
    return captions, -(-data.stills // dataset.SHARD_FRAMES) + -(-data.clips * 16 // dataset.SHARD_FRAMES), shards
