"""``models list / pull / path / rm``: the weights that are here and those that can be had."""

import shutil
from dataclasses import asdict
from functools import partial
from typing import Annotated

from typer import Argument, Typer

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer, screen

app = Typer(no_args_is_help=True, help="The weights of the video models: what is here, what can be had.")
Name = Annotated[str, Argument(metavar="MODEL", help="A model of `storycli models list`.")]


@app.command("list")
def list_models(json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Every model with its licence, its size, and whether it is here."""
    from storycli.catalogue import MODELS

    models = MODELS.values()
    if json:
        return answer([asdict(m) | {"folder": m.folder, "missing": [f.name for f in m.missing()]} for m in models])
    for model in models:
        here = "built in" if model.built_in else "not here" if model.missing() else "here"
        answer(f"{model.name:10} {here:9} {model.about}")
        for file in model.files:
            digest = f"sha256 {file.sha256}..." if file.sha256 else ""
            answer(f"{'':20} {file.name:32} {file.gigabytes:4.1f} GB  {digest}".rstrip())
        answer(f"{'':20} licence: {model.licence}")


@app.command()
def pull(name: Name, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Fetch the weights of a model; a fetch that was interrupted goes on where it stopped."""
    from storycli import catalogue, download

    model = catalogue.named(name)
    with screen.progress() as report:
        for file in model.missing():
            target = model.folder / file.name
            download.fetch(file.url, target, sha256=file.sha256, report=partial(report, file.name, ""))
    answer(str(model.folder))


@app.command()
def path(name: Name) -> None:
    """Print the folder that a model's weights are in."""
    from storycli import catalogue

    answer(str(catalogue.named(name).folder))


@app.command()
def rm(name: Name, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Delete the fetched weights of a model."""
    from storycli import catalogue
    from storycli.errors import UsageError

    model = catalogue.named(name)
    if model.built_in:
        raise UsageError(f"{name} is built in", "only fetched weights can be deleted")
    if model.folder.is_dir():
        shutil.rmtree(model.folder)
        screen.say(f"deleted {model.folder}")
