"""The paper's Table 1 measured again: what retrieved structure adds to text (He et al. 2023).

Captions of real clips are rendered under several conditions, with and without the depth of those clips, and compared
with other real clips. The work is done in chunks, each kept in a file: a run that was stopped goes on, and as many
processes as there are cores share it.

Videos are compared in the features of the project's own video classifier (models/watcher.py), so its FVD and KVD are
numbers of their own, comparable with each other and not with published ones.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.metrics import frechet_distance, kernel_distance
from models.watcher import QUESTIONS
from models.weights import write_tensors
from storycli import catalogue, digest
from storycli.catalogue import Model
from storycli.evaluate import bench
from storycli.evaluate.bench import WATCHER, Bench, Variant, flicker, likeness
from storycli.library.encoder import Encoder
from storycli.processes import each
from storycli.training.dataset import Sample
from storycli.world.words import Scene

CHUNK = 8  # clips
AMONG = 100  # prompts, of which a clip is to find its own
SLOTS = ("character", "action", "place")  # what a prompt tells
WATCHED = ("character", "place")  # of these, what the watcher can tell; it is wrong about most actions
REAL = "the clips themselves"
Progress = Callable[[int, int], None]  # clips done, of how many


class Clips(Protocol):
    """A list of captioned clips that any process can read, and know by value, in part."""

    def __len__(self) -> int: ...

    def read(self, chosen: range) -> list[Sample]: ...

    def identity(self, chosen: range) -> list: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What is rendered, and how. Two studies that are equal make the same clips."""

    clips: Clips
    variants: tuple[Variant, ...]
    model: str
    steps: int
    seed: int = 0

    def chunks(self) -> list[range]:
        return [range(i, min(i + CHUNK, len(self.clips))) for i in range(0, len(self.clips), CHUNK)]


def table_1(clips: Clips, model: Model, steps: int, seed: int = 0) -> Study:
    """The conditions of the paper's Table 1, and structure let go before the end."""
    how = {"text only": 1.0, "text + depth": 0.0, "text + depth, tau 0.4": 0.4}
    variants = tuple(Variant(name=name, tau=tau, guidance=model.guidance) for name, tau in how.items())
    return Study(clips=clips, variants=variants, model=model.name, steps=steps, seed=seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What a study found, for the clips themselves (row 0) and each variant (the other rows): n clips in each."""

    features: Tensor  # (rows, n, d) of the watcher
    answers: Tensor  # (rows, n, questions): what the watcher takes each clip for, as an index
    embeddings: Tensor  # (rows, n, e) of the retrieval encoder, of length 1, where sentences are too
    prompts: Tensor  # (n, e)
    structure_fit: Tensor  # (rows, n) correlation of a clip's depth with the depth that guided it
    chance: Tensor  # (n,) the same with the depth of another clip
    flicker: Tensor  # (rows, n)
    latents: Tensor  # (rows - 1, n, c, f, h, w) of the rendered clips


def measure(
    study: Study, folder: Path, *, workers: int = 1, device: str = "auto", progress: Progress | None = None
) -> Measures:
    """Render and measure what ``folder`` does not hold yet, with ``workers`` processes of one thread each."""
    folder.mkdir(parents=True, exist_ok=True)
    found, total = [], len(study.clips)
    for paths in each(functools.partial(_measured, study, folder, device), study.chunks(), workers):
        found.append({name: tensor for path in paths for name, tensor in load_file(path).items()})
        if progress:
            progress(min(len(found) * CHUNK, total), total)
    by_row = {name: 0 if name in ("prompts", "chance") else 1 for name in found[0]}
    return Measures(**{name: torch.cat([part[name] for part in found], dim=dim) for name, dim in by_row.items()})


def real_features(clips: Clips, folder: Path, *, workers: int = 1, progress: Progress | None = None) -> Tensor:
    """The watcher's features of real clips: (n, d)."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [range(i, min(i + 8 * CHUNK, len(clips))) for i in range(0, len(clips), 8 * CHUNK)]
    found = []
    for path in each(functools.partial(_seen, clips, folder), parts, workers):
        found.append(load_file(path)["features"])
        if progress:
            progress(sum(map(len, found)), len(clips))
    return torch.cat(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One condition: distances (lower is better), shares and correlations (higher), flicker (lower)."""

    condition: str
    fvd: float
    kvd: float
    prompt_fit: float  # share of clips that find their own prompt first among ``AMONG``
    shown: dict[str, float] | None  # share of clips with the character, and the place, that is told, where it is known
    structure_fit: float  # mean correlation of a clip's depth with the depth that guided it
    flicker: float | None  # mean change where the guiding depth stands still, in grey levels of 255


def rows(study: Study, found: Measures, real: Tensor, scenes: Sequence[Scene] | None = None) -> list[Row]:
    """The table: the clips themselves, then every variant, against the features (m, d) of other real clips.

    ``scenes`` are those that the clips show, where that is known.
    """
    names = [REAL, *(variant.name for variant in study.variants)]
    guided = [True, *(variant.tau < 1 for variant in study.variants)]
    return [
        Row(
            condition=name,
            fvd=frechet_distance(found.features[i], real),
            kvd=kernel_distance(found.features[i], real),
            prompt_fit=prompt_fit(found.embeddings[i], found.prompts),
            shown=scenes
            and {slot: hits.float().mean().item() for slot, hits in right(found.answers[i], scenes).items()},
            structure_fit=found.structure_fit[i].nanmean().item(),
            flicker=found.flicker[i].nanmean().item() if guided[i] else None,
        )
        for i, name in enumerate(names)
    ]


def right(answers: Tensor, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Whether the watcher takes each clip (n, questions) for what its scene is: by character and by place; (n,)."""
    config = bench.watcher().config
    return {
        slot: answers[:, QUESTIONS.index(slot)]
        == torch.tensor([getattr(config, f"{slot}s").index(getattr(scene, slot)) for scene in scenes])
        for slot in WATCHED
    }


def prompt_fit(embeddings: Tensor, prompts: Tensor, among: int = AMONG) -> float:
    """Share of clips (n, e) nearer to their own prompt (n, e) than to the ``among`` - 1 that follow it."""
    n = len(prompts)
    others = (torch.arange(n)[:, None] + torch.arange(min(among, n))) % n  # its own is the first
    similar = torch.einsum("ne,nme->nm", embeddings, prompts[others])
    return _share((similar[:, 1:] < similar[:, :1]).all(1))


def _share(hits: Tensor) -> float:
    return hits.float().mean().item()


def _measured(study: Study, folder: Path, device: str, chosen: range) -> tuple[Path, Path]:
    """The files of a chunk's ``Measures``, made when they are not there for the same clips and networks."""
    key = _key(study, chosen)
    rendered = folder / f"clips-{key[:16]}.safetensors"
    measured = folder / f"measures-{digest.key([key, Encoder().digest, WATCHER])[:16]}.safetensors"
    if rendered.exists() and measured.exists():
        return rendered, measured
    at = bench.at(study.model, device)
    clips = study.clips.read(chosen)
    depths = [at.estimator.estimate(clip.frames) for clip in clips]
    if not rendered.exists():
        made = [
            at.latents(clip.caption, depth, study.variants, study.steps, study.seed + number)
            for number, clip, depth in zip(chosen, clips, depths, strict=True)
        ]
        write_tensors(rendered, {"latents": torch.stack(made, dim=1).contiguous()}, {})
    latents = load_file(rendered)["latents"]
    frames = [[clip.frames for clip in clips]] + [[at.frames(one) for one in made] for made in latents]
    write_tensors(measured, _measures(at, clips, depths, frames), {})
    return rendered, measured


def _measures(
    at: Bench, clips: Sequence[Sample], depths: Sequence[np.ndarray], frames: Sequence[Sequence[np.ndarray]]
) -> dict[str, Tensor]:
    seen = [bench.watch(row) for row in frames]
    fits = [[likeness(at.estimator.estimate(f), d) for f, d in zip(row, depths, strict=True)] for row in frames]
    others = [likeness(depth, depths[i - 1]) for i, depth in enumerate(depths)]
    return {
        "features": torch.stack([features for features, _ in seen]),
        "answers": torch.stack([answers for _, answers in seen]),
        "embeddings": torch.stack([at.embed(row) for row in frames]),
        "prompts": torch.from_numpy(at.encoder.embed_text([clip.caption for clip in clips])),
        "structure_fit": torch.tensor(fits),
        "chance": torch.tensor(others),
        "flicker": torch.tensor([[flicker(f, d) for f, d in zip(row, depths, strict=True)] for row in frames]),
    }


def _seen(clips: Clips, folder: Path, chosen: range) -> Path:
    path = folder / f"real-{digest.key([clips.identity(chosen), WATCHER])[:16]}.safetensors"
    if not path.exists():
        features, _ = bench.watch([clip.frames for clip in clips.read(chosen)])
        write_tensors(path, {"features": features}, {})
    return path


def _key(study: Study, chosen: range) -> str:
    """What the latents of some clips depend on."""
    how = [study.variants, catalogue.named(study.model).sampler, study.steps, study.seed + chosen.start]
    return digest.key([study.clips.identity(chosen), how, _networks(study.model)])


@functools.cache
def _networks(model: str) -> str:
    """The digest of the networks that make latents of a caption and a clip."""
    chosen = catalogue.named(model)
    used = [f.name for f in chosen.files if not any(part in f.name for part in ("retrieval", "frozen", "upscaler"))]
    return digest.key([digest.file(chosen.folder / name) for name in used])
