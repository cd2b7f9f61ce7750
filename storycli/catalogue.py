"""The video models there are, what they need, and which one to use: known without loading any."""

import functools
from dataclasses import dataclass
from pathlib import Path

from storycli import config, digest
from storycli.errors import StoryError, UsageError

HUB = "https://huggingface.co/VideoCrafter/t2v-version-1-1/resolve/main/models"
MIDAS = "https://github.com/isl-org/DPT/releases/download/1_0/dpt_hybrid-midas-501f0c75.pt"
FROZEN_IN_TIME = "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/models/cc-webvid2m-4f_stformer_b_16_224.pth.tar"
STEPS = {"dpm": 20, "ddim": 50}  # that a sampler needs
PARTS = ("unet", "structure", "autoencoder", "upscaler", "depth", "retrieval")
BUILT_IN = Path(__file__).parent.parent / "models" / "weights"


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """A file of weights, where it can be had, and the digest that it must have."""

    name: str
    url: str = ""  # empty: it ships with the package
    gigabytes: float = 0
    sha256: str = ""  # the beginning of it where the publisher gives no more; empty where none


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A video model, and the frames, size and sampling that suit it."""

    name: str
    about: str
    licence: str
    files: tuple[WeightFile, ...]
    frames: int
    fps: float
    size: tuple[int, int]  # width and height of its film
    grid: int  # both are multiples of this
    upscale: int  # how much larger the film is than what is sampled
    sampler: str
    steps: int  # of its sampler
    guidance: float
    tau: float
    memory: float  # GiB while rendering
    seconds: float  # for one such clip: on two cores, or on a GPU for a model that needs one
    needs_gpu: bool = False

    @property
    def built_in(self) -> bool:
        return not any(file.url for file in self.files)

    @property
    def folder(self) -> Path:
        """Where its weights are."""
        return BUILT_IN if self.built_in else config.home() / "weights" / self.name

    def missing(self) -> list[WeightFile]:
        """The files that are not on disk."""
        return [file for file in self.files if not (self.folder / file.name).is_file()]

    def steps_of(self, sampler: str) -> int:
        """How many steps suit a sampler."""
        return self.steps if sampler == self.sampler else STEPS[sampler]

    def identity(self) -> dict[str, str]:
        """The model by value: all of its weights."""
        return {"name": self.name, "sha256": _digest(tuple(self.folder / file.name for file in self.files))}


MODELS = {
    model.name: model
    for model in (
        Model(
            name="storybook",
            about="small storybook scenes; any laptop, nothing to download",
            licence="Apache-2.0",
            files=tuple(WeightFile(name=f"storybook-{part}.safetensors") for part in PARTS),
            frames=16,
            fps=8,
            size=(512, 512),
            grid=128,
            upscale=4,
            sampler="dpm",
            steps=20,
            guidance=4,
            tau=0.2,
            memory=2,
            seconds=4,
        ),
        Model(
            name="lvdm",
            about="the paper's own: photographic video at 256x256, needs a GPU",
            licence="research use (the authors' terms)",
            files=(
                WeightFile(name="model_rm_wtm.ckpt", url=f"{HUB}/base_t2v/model_rm_wtm.ckpt", gigabytes=4.7),
                WeightFile(
                    name="adapter.pth",
                    url=f"{HUB}/adapter_t2v_depth/adapter_t2v_depth_rm_wtm.pth",
                    gigabytes=0.3,
                ),
                WeightFile(name="dpt_hybrid-midas.pt", url=MIDAS, gigabytes=0.5, sha256="501f0c75"),
                WeightFile(name="frozen-in-time.pth.tar", url=FROZEN_IN_TIME, gigabytes=2.2),
            ),
            frames=16,
            fps=8,
            size=(256, 256),
            grid=64,
            upscale=1,
            sampler="ddim",
            steps=50,
            guidance=15,
            tau=0.2,
            memory=9,
            seconds=30,
            needs_gpu=True,
        ),
    )
}


def named(name: str) -> Model:
    """The model called ``name``. Raises UsageError when there is none."""
    if name not in MODELS:
        raise UsageError(f"{name}: there is no such model", f"there are {', '.join(MODELS)}")
    return MODELS[name]


def choose(name: str, device: str) -> Model:
    """The model called ``name``; ``auto`` is the best one whose weights are on disk and that fits the device.

    Raises:
        StoryError: its weights are not all there.
    """
    if name == "auto":
        name = "lvdm" if not MODELS["lvdm"].missing() and _has_gpu(device) else "storybook"
    model = named(name)
    if missing := model.missing():
        raise StoryError(
            f"{name}: {len(missing)} of its {len(model.files)} files are not here: {missing[0].name} ...",
            "install storycli again: it is not whole" if model.built_in else f"storycli models pull {name}",
        )
    return model


def _has_gpu(device: str) -> bool:
    """Whether ``device`` is, or would turn out to be, a GPU; torch is only asked when it may be."""
    if device != "auto":
        return device == "cuda"
    import torch

    return torch.cuda.is_available()


@functools.cache
def _digest(paths: tuple[Path, ...]) -> str:
    return digest.key([digest.file(path) for path in paths])
