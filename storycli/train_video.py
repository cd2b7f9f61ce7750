"""``train-base`` and ``train-structure``: from captioned video, or the storybook world, to the two networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models import precision, structure, unet
from models.weights import load_minilm
from storycli import dataset, sources
from storycli.errors import StoryError
from storycli.render import load_model
from storycli.training import TrainConfig, train

Report = Callable[[str, int, int], None]  # stage, done, of how many


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What to train on: captioned videos, or, where there are none, scenes of the storybook world."""

    videos: Sequence[Path] = ()
    assets: Path | None = None  # where the world's pictures are, or are to be fetched to
    tier: str = "core"
    stills: int = 40_960
    clips: int = 4_096
    workers: int = 1


def train_video(
    data: Data, out: Path, config: TrainConfig, *, device: str = "auto", report: Report | None = None
) -> Path:
    """Prepare the data under ``out/data`` and train under ``out``; both go on where they were stopped.

    Leaves ``unet.safetensors`` and ``structure.safetensors`` in ``out``. Stage ``structure`` starts from the built-in
    U-Net, the others from nothing. Raises StoryError when there is nothing to train on.
    """
    report = report or (lambda stage, done, total: None)
    where = str(precision.pick_device(device))
    for done, total in _prepare(data, out / "data"):
        report("prepare", done, total)
    text = load_minilm()
    ids, words = text.tokenize([""])
    empty = text.encode(ids, words)[0], words[0]
    denoiser = load_model("storybook").unet if config.stage == "structure" else unet.STORYBOOK
    for now in train(config, denoiser, structure.STORYBOOK, out / "data", out, empty_context=empty, device=where):
        report(f"train (loss {now.loss:.3f})", now.seen, now.frames)
    return out


def _prepare(data: Data, folder: Path):
    """Yields how many shards are done, of how many."""
    from models.weights import load_autoencoder
    from storycli import catalogue

    weights = catalogue.named("storybook").folder / "storybook-autoencoder.safetensors"
    if data.videos:
        found = [s for s in sources.find(data.videos) if isinstance(s, sources.Source) and s.told.caption]
        if not found:
            raise StoryError(
                "none of these videos has a caption to learn from", "give a CSV with the columns path and caption"
            )
        pairs = [(source.path, source.told.caption) for source in found]
        encode = load_autoencoder(weights).encode
        shards = dataset.prepare_videos(
            folder, pairs, encode, load_minilm(), model="storybook", num_frames=16, fps=8, size=128
        )
        total = 2 * -(-len(pairs) // (dataset.SHARD_FRAMES // 16))
    else:
        from storycli.world.generator import fetch_assets

        assets = data.assets or folder.parent / "assets"
        if not assets.exists():
            fetch_assets(assets)
        shards = dataset.prepare_world(
            folder, assets, weights, tier=data.tier, stills=data.stills, clips=data.clips, workers=data.workers
        )
        total = -(-data.stills // dataset.SHARD_FRAMES) + -(-data.clips * 16 // dataset.SHARD_FRAMES)
    for done, _ in enumerate(shards, 1):
        yield done, total
