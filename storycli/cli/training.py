"""``train-character``, ``train-base``, ``train-structure``: the paper's training, its last stage first; then its tools:
``train-autoencoder``, ``train-decoder``, ``train-depth``, ``train-retrieval``.
"""

import re
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, BadParameter, Option

from storycli.cli.models import tell_terms
from storycli.cli.options import Device, Json, ModelName, Quiet, Verbose, gathering
from storycli.cli.screen import answer, screen

Steps = Annotated[int | None, Option(min=1, metavar="N", help="Training steps.")]
Seed = Annotated[int, Option(min=0, metavar="N", help="Another number, another run.")]
Videos = Annotated[
    list[Path] | None,
    Argument(metavar="VIDEOS...", help="Captioned videos: a CSV with the columns path and caption."),
]
Output = Annotated[Path, Option("--output", "-o", metavar="DIR", help="Where weights and checkpoints go.")]
Batch = Annotated[int, Option(min=1, metavar="N", help="Frames in a step.")]
Rate = Annotated[float, Option(min=0, metavar="X", help="Learning rate.")]
Assets = Annotated[Path | None, Option(metavar="DIR", help="The storybook world's pictures; fetched when not there.")]
Tier = Annotated[Literal["core", "wide"], Option(help="How much of that world to learn.")]
Often = Annotated[
    list[str] | None, Option(metavar="ACTION=N", help="Draw an action, or a `companion`, N times as often; repeat it.")
]
Workers = Annotated[int, Option(min=1, metavar="N", help="Processes that draw scenes.")]
Further = Annotated[bool, Option("--further", help="Train the built-in weights on, in place of new ones.")]
Method = Literal[
    "timeinv", "textual-inversion", "dreambooth", "custom-diffusion",
    "timeinv-alone", "timeinv-attention", "low-rank", "custom-timeinv",
]  # fmt: skip


def train_character(
    dir: Annotated[Path, Argument(metavar="DIR", help="A folder with 3 to 10 pictures of the character.")],
    name: Annotated[
        str | None, Option(metavar="NAME", help="Prompts call it {NAME}; the folder's name otherwise.")
    ] = None,
    class_word: Annotated[
        str | None, Option(metavar="WORDS", help='What it is a kind of, such as "teddy bear".')
    ] = None,
    method: Annotated[Method, Option(help="The paper's method, or one it is measured against.")] = "timeinv",
    model: ModelName = None,
    steps: Steps = None,
    seed: Seed = 0,
    frames: Annotated[
        int | None, Option(min=1, max=16, metavar="N", help="Show a picture as a still clip of N frames; lvdm: 16.")
    ] = None,
    preview: Annotated[
        int, Option(min=0, metavar="N", help="Draw the character every N steps, a multiple of 25; 0: only at the end.")
    ] = 0,
    patience: Annotated[
        int, Option(min=0, metavar="N", help="Stop early after N looks, 25 steps apart, without progress; 0: never.")
    ] = 0,
    proof: Annotated[
        bool, Option("--proof/--no-proof", help="Render scenes with and without the character, and compare.")
    ] = True,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Teach the model a character from its pictures.

    Writes DIR/character.safetensors, which render then uses, and a sheet of before and after with the figures
    that say whether it took. A training that was stopped goes on where it was.
    """
    from storycli import catalogue, config, script
    from storycli.characters import learn, methods
    from storycli.characters import proof as proving
    from storycli.locks import alone

    settings = config.load({"model": model, "device": device})
    chosen = catalogue.choose(settings.model, settings.device)
    tell_terms(chosen)
    hero = script.hero(dir, name)
    if said := (class_word or "").strip():
        hero = hero.model_copy(update={"class_word": said})
    wishes = {"method": method, "seed": seed, "patience": patience}
    wishes |= {name: value for name, value in (("steps", steps), ("frames", frames)) if value}
    training = methods.config_for(chosen.name, **wishes)
    how = {"device": settings.device, "index": config.library_folder(settings.index)}
    with screen.progress() as report:
        tell = partial(report, "train-character", "")
        watch = proving.previews(hero, chosen, preview, **how) if preview else None
        with alone(hero.dir / learn.LOCK, hero.dir):
            path = learn.train(hero, chosen.name, config=training, progress=tell, watch=watch, **how)
        tell = partial(report, "proof", "")
        found = proving.prove(hero, path, chosen, progress=tell, **how) if proof else None
    told = {"character": str(path), "name": hero.name} | (asdict(found) if found else {})
    lines = (
        f"{name + ':':16}{value:.3f}" if isinstance(value, float) else f"{name + ':':16}{value}"
        for name, value in told.items()
        if value is not None  # where nobody sees it
    )
    answer(told if json else "\n".join(lines))
    if found:
        proving.check(found)


TRAINING = {
    "videos": (Videos, None),
    "output": (Output, Path("training")),
    "clip_frames": (Annotated[int, Option(min=0, metavar="N", help="Frames of video to see.")], 200_000),
    "batch": (Batch, 32),
    "lr": (Rate, 1e-3),
    "seed": (Seed, 0),
    "tier": (Tier, "core"),
    "often": (Often, None),
    "assets": (Assets, None),
    "workers": (Workers, 1),
    "compile": (
        Annotated[bool, Option("--compile", help="Compile the networks first: minutes once, then quicker steps.")],
        False,
    ),
    "device": (Device, None),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}


@gathering("training", TRAINING)
def train_base(
    joint: Annotated[
        bool, Option("--joint", help="Train the structure encoder along with it, as the built-in model was.")
    ] = False,
    still_frames: Annotated[int, Option(min=0, metavar="N", help="Pictures to see first.")] = 400_000,
    further: Further = False,
    *,
    training,
) -> None:
    """Train the text-to-video model (the paper's stage 1), of the built-in size.

    A run that was stopped goes on where it was. Without VIDEOS it learns from scenes of the storybook world.
    torchrun -m storycli train-base ... trains on several devices, or cores.
    """
    _train("joint" if joint else "base", still_frames, further, **training)


@gathering("training", TRAINING)
def train_structure(further: Further = False, *, training) -> None:
    """Train the structure encoder on a frozen U-Net (the paper's stage 2).

    The U-Net is that of train-base in the same folder, or else the built-in one. A run that was stopped goes on where
    it was. Without VIDEOS it learns from scenes of the storybook world.
    """
    _train("structure", 0, further, **training)


def train_autoencoder(
    output: Output = Path("training"),
    crops: Annotated[int | None, Option(min=1, metavar="N", help="Parts of pictures to see.")] = None,
    seed: Seed = 0,
    tier: Tier = "core",
    assets: Assets = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train an autoencoder of the built-in size from nothing, on the CPU.

    It makes other latents: what was trained on those of the built-in one, U-Net and characters, does not fit it. A run
    that was stopped goes on where it was.
    """
    from storycli.training import autoencoder
    from storycli.world.generator import assets_in

    path = output / "autoencoder.safetensors"
    with screen.progress() as report:
        autoencoder.train(
            assets_in(output, assets),
            path,
            settings=_wished(autoencoder.SETTINGS, samples=crops, seed=seed),
            tier=tier,
            progress=partial(report.of, "autoencoder"),
        )
    answer(str(path))


def train_retrieval(
    output: Output = Path("training"),
    clips: Annotated[int | None, Option(min=32, metavar="N", help="Clips of the world to draw.")] = None,
    samples: Annotated[int | None, Option(min=32, metavar="N", help="Pairs of a clip and a caption to see.")] = None,
    seed: Seed = 0,
    assets: Assets = None,
    further: Further = False,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the network that finds clips, on captioned clips of the storybook world.

    `storycli index --encoder FILE` makes a library with it. A run that was stopped goes on where it was.
    """
    from storycli.library.encoder import BUILT_IN
    from storycli.training import retrieval
    from storycli.world.generator import assets_in

    where = _place(device)
    path = output / "retrieval.safetensors"
    with screen.progress() as report:
        retrieval.train(
            assets_in(output, assets),
            path,
            settings=_wished(retrieval.SETTINGS, samples=samples, seed=seed),
            further=BUILT_IN if further else None,
            device=where,
            progress=partial(report.of, "retrieval"),
            **({"clips": clips} if clips else {}),
        )
    answer(str(path))


def train_depth(
    output: Output = Path("training"),
    pictures: Annotated[
        int | None, Option(min=16, metavar="N", help="Scenes of the world to draw, and as many others.")
    ] = None,
    samples: Annotated[int | None, Option(min=16, metavar="N", help="Views of them to see.")] = None,
    lr: Annotated[float | None, Option(min=0, metavar="X", help="Learning rate.")] = None,
    seed: Seed = 0,
    assets: Assets = None,
    further: Further = False,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the depth network of the built-in model, on scenes whose depth is exact.

    A run that was stopped goes on where it was. With torchrun, every process draws scenes of its own.
    """
    from storycli import catalogue, processes
    from storycli.training import depth

    where = _place(device)
    with screen.progress() as report:
        path = depth.train(
            assets,
            output,
            settings=_wished(depth.SETTINGS, samples=samples, learning_rate=lr, seed=seed),
            pictures=pictures or depth.PICTURES,
            start=catalogue.BUILT_IN / "storybook-depth.safetensors" if further else None,
            device=where,
            report=report.of,
        )
    if processes.first():
        answer(str(path))


def train_decoder(
    output: Output = Path("training"),
    pictures: Annotated[int | None, Option(min=128, metavar="N", help="Scenes to redraw, and to learn from.")] = None,
    crops: Annotated[int | None, Option(min=1, metavar="N", help="Parts of them to see.")] = None,
    seed: Seed = 0,
    assets: Assets = None,
    workers: Workers = 1,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the decoder of the built-in model on what its U-Net draws, against a critic; then the upscaler.

    Latents, and so the U-Net and all characters, stay as they are. A run that was stopped goes on where it was.
    """
    from models.weights import load_autoencoder
    from storycli import catalogue, processes
    from storycli.training import decoder, upscaler
    from storycli.world.generator import assets_in

    where = _place(device)
    larger = output / "upscaler.safetensors"
    with screen.progress() as report:
        how = dict(workers=workers, device=where, report=report.of)
        wishes = dict(
            settings=_wished(decoder.SETTINGS, samples=crops, seed=seed), pictures=pictures or decoder.PICTURES
        )
        path = decoder.train(assets, output, **wishes, **how)
        if processes.first():
            upscaler.train(
                assets_in(output, assets),
                load_autoencoder(path),
                larger,
                settings=_wished(upscaler.FURTHER, seed=seed),
                start=catalogue.BUILT_IN / "storybook-upscaler.safetensors",
                progress=partial(report.of, "upscaler"),
            )
            answer(f"{path}\n{larger}")


def _wished(settings, **wishes):
    """Settings with what a person has asked for."""
    return replace(settings, **{name: wish for name, wish in wishes.items() if wish is not None})


def _place(device: str | None) -> str:
    """The device to train on. Of several processes only the first says anything."""
    from storycli import catalogue, config, processes

    screen.quiet = screen.quiet or not processes.first()
    where = config.load({"device": device}).device
    catalogue.check_device(where)
    return where


def _often(wishes: list[str] | None) -> dict[str, float]:
    """How many times as often actions, and company, are to be drawn."""
    told = {}
    for wish in wishes or ():
        action, _, times = wish.partition("=")
        if not re.fullmatch(r"\d+(\.\d+)?", times):
            raise BadParameter(f"{wish}: say ACTION=N, such as sleep=8", param_hint="--often")
        told[action] = float(times)
    return told


def _train(
    stage: str,
    still_frames: int,
    further: bool,
    *,
    videos,
    output,
    tier,
    often,
    assets,
    workers,
    device,
    quiet,
    verbose,
    **wishes,
) -> None:
    from storycli import processes
    from storycli.errors import UsageError
    from storycli.training.diffusion import TrainConfig
    from storycli.training.video import Data, train_video

    if videos and (often or tier != "core"):
        raise UsageError("--often and --tier are for scenes that are drawn, not for VIDEOS", "leave them out")
    where = _place(device)
    training = TrainConfig(stage=stage, still_frames=still_frames, **wishes)
    data = Data(videos=videos or (), assets=assets, tier=tier, often=_often(often), workers=workers)
    with screen.progress() as report:
        how = dict(device=where, report=report.of)
        out = train_video(data, output, training, further=further, **how)
    if processes.first():
        answer(str(out))
