"""The models there are, what they need, and which one to use: known without loading any."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from models.times import ddim_times, dpm_times
from storycli import digest, pins
from storycli.errors import StoryError, UsageError

VIDEOCRAFTER = "VideoCrafter/t2v-version-1-1"
DEPTH_ANYTHING = "depth-anything/Depth-Anything-V2-Small-hf"
MIDAS = "https://github.com/isl-org/DPT/releases/download/1_0/dpt_hybrid-midas-501f0c75.pt"
FROZEN_IN_TIME = "https://www.robots.ox.ac.uk/~maxbain/frozen-in-time/models/cc-webvid2m-4f_stformer_b_16_224.pth.tar"
STEPS = {"sde": 24, "dpm": 20, "ddim": 50}  # that a sampler needs
SCHEDULE = 1000  # steps of the noise schedule that models were trained with
PARTS = ("unet", "structure", "autoencoder", "upscaler", "depth", "retrieval")
BUILT_IN = Path(__file__).parent.parent / "models" / "weights"


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """A file of weights, where it can be had, and the digest that it must have."""

    name: str
    about: str = ""
    repo: str = ""  # on Hugging Face's hub: owner/name ...
    remote: str = ""  # ... and the file in it, or a URL of its own; empty where it ships with the package
    gigabytes: float = 0
    sha256: str = ""  # the beginning of it where the publisher gives no more; empty where none
    optional: bool = False  # not needed to render
    holds: tuple[str, ...] = ()  # tensors by which it is known, whatever stands before their names
    namesake: str = ""  # what else people have under its name

    @property
    def url(self) -> str:
        """Where it was published; ``HF_ENDPOINT`` names another hub, as it does for Hugging Face's own tools."""
        hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        return f"{hub.rstrip('/')}/{self.repo}/resolve/main/{self.remote}" if self.repo else self.remote

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names under which people have it, the published one first: another file may have the other."""
        return tuple(dict.fromkeys((Path(self.remote).name, self.name)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Files that belong together, and what may be done with them."""

    name: str
    about: str
    licence: str
    limits: str = ""  # of the licence, in a sentence; empty where it leaves all free
    files: tuple[WeightFile, ...]

    @property
    def built_in(self) -> bool:
        return not any(file.remote for file in self.files)

    @property
    def folder(self) -> Path:
        """Where its weights are."""
        return BUILT_IN if self.built_in else pins.weights_folder() / self.name

    def path(self, file: WeightFile) -> Path:
        return self.folder / file.name

    def absent(self) -> list[WeightFile]:
        """The files that are not on disk."""
        return [file for file in self.files if not self.path(file).is_file()]

    def missing(self) -> list[WeightFile]:
        """The files that it cannot be used without and that are not on disk."""
        return [file for file in self.absent() if not file.optional]

    def identity(self) -> dict[str, str]:
        """The weights by value."""
        needed = (self.path(file) for file in self.files if not file.optional)
        return {"name": self.name, "sha256": _digest(tuple(needed), self.built_in)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Model(Weights):
    """A video model, and the frames, size and sampling that suit it."""

    frames: int
    fps: float
    size: tuple[int, int]  # width and height of its film
    grid: int  # both are multiples of this
    upscale: int  # how much larger the film is than what is sampled
    sampler: str
    steps: int  # of its sampler
    eta: float = 0  # of ddim: the share of fresh noise in every step
    guidance: float
    tau: float
    memory: float  # GiB while rendering
    seconds: float  # for one such clip: on two cores, or on a GPU for a model that needs one
    training_seconds: float  # for a character that has only pictures, in the same place
    judge: str  # which of its files sees how good its clips are
    style: str = ""  # what its prompts end with
    needs_gpu: bool = False

    @property
    def sampled(self) -> tuple[int, int]:
        """Width and height of what is sampled, and of the guides, for a film of its own size."""
        return self.size[0] // self.upscale, self.size[1] // self.upscale

    def in_style(self, prompt: str) -> str:
        """A prompt that ends with its style, where it has one."""
        return ", ".join(filter(None, (prompt, self.style)))

    def steps_of(self, sampler: str) -> int:
        """How many steps suit a sampler."""
        return self.steps if sampler == self.sampler else STEPS[sampler]

    def check(self, *, sampler: str, steps: int, size: tuple[int, int]) -> None:
        """Raise StoryError for what it cannot do, which is better told before the work than in it."""
        sampling_times(sampler, steps)
        if any(side % self.grid for side in size):
            raise StoryError(
                f"{self.name} cannot make a film of {'x'.join(map(str, size))}",
                f"width and height are multiples of {self.grid}, such as {self.size[0]}x{self.size[1]}",
            )


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
            sampler="sde",
            steps=12,
            guidance=2,
            tau=0.2,
            memory=2,
            seconds=4,
            training_seconds=50,
            judge="storybook-retrieval.safetensors",
            style="storybook style",
        ),
        Model(
            name="lvdm",
            about="the paper's own: photographic video at 256x256, needs a GPU",
            licence="research use (the authors' terms)",
            limits="Its authors give it for personal and research use, not for commercial use. It was trained on "
            "WebVid-10M, which is no longer distributed, and grew from Stable Diffusion 1, whose licence (CreativeML "
            "OpenRAIL-M) forbids harmful uses.",
            files=(
                WeightFile(
                    name="model_rm_wtm.ckpt",
                    about="video U-Net, autoencoder, text encoder",
                    repo=VIDEOCRAFTER,
                    remote="models/base_t2v/model_rm_wtm.ckpt",
                    gigabytes=4.7,
                    holds=(
                        "model.diffusion_model.out.2.weight",
                        "first_stage_model.decoder.conv_out.weight",
                        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
                    ),
                ),
                WeightFile(
                    name="adapter.pth",
                    about="structure encoder",
                    repo=VIDEOCRAFTER,
                    remote="models/adapter_t2v_depth/adapter_t2v_depth_rm_wtm.pth",
                    gigabytes=0.3,
                    holds=("body.7.block2.weight",),
                    namesake="the structure encoder of the first release, which does not go with model_rm_wtm.ckpt",
                ),
                WeightFile(
                    name="dpt_hybrid-midas.pt",
                    about="depth",
                    remote=MIDAS,
                    gigabytes=0.5,
                    sha256="501f0c75",
                    holds=("scratch.output_conv.4.weight",),
                ),
                WeightFile(
                    name="frozen-in-time.pth.tar",
                    about="retrieval, for an index made with it, and what judges clips",
                    remote=FROZEN_IN_TIME,
                    gigabytes=2.2,
                    optional=True,
                    holds=("video_model.temporal_embed",),
                ),
            ),
            frames=16,
            fps=8,
            size=(256, 256),
            grid=64,
            upscale=1,
            sampler="ddim",
            steps=50,
            eta=1,  # as its authors sample
            guidance=15,
            tau=0.2,
            memory=9,
            seconds=30,
            # Reckoned, not measured: 1000 steps of 30 TFLOP (two clips forward and, with activations computed twice,
            # three times that backward, and one clip more as it was before), at 25 to 50 TFLOP a second.
            training_seconds=900,
            judge="frozen-in-time.pth.tar",
            needs_gpu=True,
        ),
    )
}


OTHERS = {
    weights.name: weights
    for weights in (
        Weights(
            name="depth-anything-v2-small",
            about="a depth network for lvdm that keeps the proportions of a picture",
            licence="Apache-2.0",
            files=tuple(
                WeightFile(name=name, repo=DEPTH_ANYTHING, remote=name, gigabytes=gigabytes)
                for name, gigabytes in (("config.json", 0), ("model.safetensors", 0.1))
            ),
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthNetwork:
    """A network that tells how near things are, and the files of some weights that it needs."""

    name: str
    weights: Weights
    files: tuple[str, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.weights.folder / file for file in self.files)

    def identity(self) -> dict[str, str]:
        return {"name": self.name, "sha256": _digest(self.paths, self.weights.built_in)}


DEPTH_NETWORKS = {
    network.name: network
    for network in (
        DepthNetwork(name="storybook", weights=MODELS["storybook"], files=("storybook-depth.safetensors",)),
        DepthNetwork(name="dpt_hybrid", weights=MODELS["lvdm"], files=("dpt_hybrid-midas.pt",)),
        DepthNetwork(
            name="depth_anything_v2_small",
            weights=OTHERS["depth-anything-v2-small"],
            files=("config.json", "model.safetensors"),
        ),
    )
}
LEARNT_WITH = {"lvdm": "dpt_hybrid"}  # the depth network of a video model where it has another name


def depth_network(name: str | None, model: Model) -> DepthNetwork:
    """The depth network called ``name``, or the one that a model learnt with. Raises StoryError when it is not here."""
    network = DEPTH_NETWORKS[name or LEARNT_WITH.get(model.name, model.name)]
    if absent := [path.name for path in network.paths if not path.is_file()]:
        raise StoryError(
            f"{network.name}: these of its files are not here: {', '.join(absent)}",
            f"storycli models pull {network.weights.name}",
        )
    return network


def weights(name: str) -> Weights:
    """All there is to pull under ``name``. Raises UsageError when there is nothing."""
    if name not in MODELS | OTHERS:
        raise UsageError(f"{name}: there is no such model", f"there are {', '.join(MODELS | OTHERS)}")
    return (MODELS | OTHERS)[name]


def named(name: str) -> Model:
    """The model called ``name``. Raises UsageError when there is none."""
    if name not in MODELS:
        raise UsageError(f"{name}: there is no such model", f"there are {', '.join(MODELS)}")
    return MODELS[name]


def choose(name: str, device: str) -> Model:
    """The model called ``name``; ``auto`` is the best one whose weights are on disk and that fits the device: a GPU
    with as much memory free as it needs.

    Raises:
        StoryError: its weights are not all there, or the device is not.
    """
    check_device(device)
    if name == "auto":
        best = MODELS["lvdm"]
        name = best.name if not best.missing() and gpu_memory(device) >= best.memory else "storybook"
    model = named(name)
    if missing := model.missing():
        raise StoryError(
            f"{name}: these of its files are not here: {', '.join(file.name for file in missing)}",
            "install storycli again: it is not whole" if model.built_in else f"storycli models pull {name}",
        )
    return model


def check_device(device: str) -> None:
    """Raises StoryError where there is no such device."""
    if device in ("cuda", "mps"):
        import torch

        if not (torch.cuda if device == "cuda" else torch.backends.mps).is_available():
            raise StoryError(f"torch finds no {device} device here", "leave --device out, or choose cpu")


@functools.cache
def gpu_memory(device: str) -> float:
    """GiB that were free on the GPU that ``device`` is, or would turn out to be; 0 where that is none.

    It is looked at once, before the work of this process takes some, or a film would end with another model than it
    began with. torch is only asked when there may be a GPU.
    """
    if device not in ("auto", "cuda"):
        return 0
    import torch

    return torch.cuda.mem_get_info()[0] / 2**30 if torch.cuda.is_available() else 0


def sampling_times(sampler: str, steps: int, total: int = SCHEDULE) -> list[int]:
    """The times at which a sampler calls the model, falling. Raises StoryError for a number of steps it cannot take."""
    try:
        return ddim_times(steps, total) if sampler == "ddim" else dpm_times(steps, total)[:-1]
    except ValueError as error:
        suited = ", ".join(f"--steps {steps} for the sampler {name}" for name, steps in STEPS.items())
        raise StoryError(str(error), f"choose {suited}") from error


@functools.cache
def _digest(paths: tuple[Path, ...], built_in: bool) -> str:
    return digest.key([digest.file(path) if built_in else pins.digest_of(path) for path in paths])
