"""``train-character``, ``train-base``, ``train-structure``: the paper's training, its last stage first."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from storycli.cli.options import Device, Json, ModelName, Quiet, Verbose
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
Workers = Annotated[int, Option(min=1, metavar="N", help="Processes that draw scenes.")]
Method = Literal["timeinv", "textual-inversion", "dreambooth", "custom-diffusion"]


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
    that say whether it took.
    """
    from storycli import catalogue, characters, config, script
    from storycli import proof as proving

    settings = config.load({"model": model, "device": device})
    chosen = catalogue.choose(settings.model, settings.device)
    hero = script.character(f"{name}={dir}" if name else str(dir)).model_copy(update={"class_word": class_word})
    wishes = {"method": method, "seed": seed} | ({"steps": steps} if steps else {})
    training = characters.config_for(chosen.name, **wishes)
    how = {"device": settings.device}
    with screen.progress() as report:
        tell = partial(report, "train-character", "")
        path = characters.train(hero, chosen.name, config=training, progress=tell, **how)
        tell = partial(report, "proof", "")
        found = proving.prove(hero, path, chosen, progress=tell, **how) if proof else None
    told = {"character": str(path), "name": hero.name} | (asdict(found) if found else {})
    lines = (
        f"{name + ':':16}{value:.3f}" if isinstance(value, float) else f"{name + ':':16}{value}"
        for name, value in told.items()
    )
    answer(told if json else "\n".join(lines))
    if found:
        proving.check(found)


def train_base(
    videos: Videos = None,
    output: Output = Path("training"),
    joint: Annotated[
        bool, Option("--joint", help="Train the structure encoder along with it, as the built-in model was.")
    ] = False,
    still_frames: Annotated[int, Option(min=0, metavar="N", help="Pictures to see first.")] = 400_000,
    clip_frames: Annotated[int, Option(min=0, metavar="N", help="Frames of video to see then.")] = 200_000,
    batch: Batch = 32,
    lr: Rate = 1e-3,
    seed: Seed = 0,
    assets: Assets = None,
    workers: Workers = 1,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the text-to-video model (the paper's stage 1), of the built-in size.

    A run that was stopped goes on where it was. Without VIDEOS it learns from scenes of the storybook world.
    """
    from storycli.training import TrainConfig

    stage = "joint" if joint else "base"
    wishes = {
        "still_frames": still_frames,
        "clip_frames": clip_frames,
        "batch": batch,
        "lr": lr,
        "seed": seed,
    }
    _train(videos, output, TrainConfig(stage=stage, **wishes), assets, workers, device)


def train_structure(
    videos: Videos = None,
    output: Output = Path("training"),
    clip_frames: Annotated[int, Option(min=1, metavar="N", help="Frames of video to see.")] = 200_000,
    batch: Batch = 32,
    lr: Rate = 1e-3,
    seed: Seed = 0,
    assets: Assets = None,
    workers: Workers = 1,
    device: Device = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the structure encoder on the frozen built-in model (the paper's stage 2).

    A run that was stopped goes on where it was. Without VIDEOS it learns from scenes of the storybook world.
    """
    from storycli.training import TrainConfig

    wishes = {"still_frames": 0, "clip_frames": clip_frames, "batch": batch, "lr": lr, "seed": seed}
    _train(videos, output, TrainConfig(stage="structure", **wishes), assets, workers, device)


def _train(videos, output: Path, training, assets: Path | None, workers: int, device: str | None) -> None:
    from storycli import config
    from storycli.train_video import Data, train_video

    settings = config.load({"device": device})
    data = Data(videos=videos or (), assets=assets, workers=workers)
    with screen.progress() as report:
        out = train_video(
            data, output, training, device=settings.device, report=lambda what, n, of: report(what, "", n, of)
        )
    answer(str(out))
