"""``models list / pull / import / path / rm``: the weights that are here and those that can be had."""

import sys
from dataclasses import asdict
from typing import Annotated

from typer import Argument, Exit, Option, Typer, confirm

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer, screen

MUCH = 1.0  # GB; more is asked about


app = Typer(no_args_is_help=True, help="The weights of the models: what is here, what can be had.")
Name = Annotated[str, Argument(metavar="MODEL", help="A model of `storycli models list`.")]


@app.command("list")
def list_models(json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Every model with what it is for, its licence, its size, where it comes from, and what of it is here."""
    from storycli import store
    from storycli.catalogue import MODELS, OTHERS

    models = [*MODELS.values(), *OTHERS.values()]
    if json:
        return answer([_as_json(model) for model in models])
    for model in models:
        absent = len(model.absent())
        here = (
            "built in"
            if model.built_in
            else "here"
            if not absent
            else f"{len(model.files) - absent} of {len(model.files)}"
        )
        answer(f"{model.name:25}{here:10}{model.about}")
        answer(f"{'':25}licence: {model.licence}" + (f". {model.limits}" if model.limits else ""))
        for file in model.files if not model.built_in else ():
            pin = f", sha256 {file.sha256}..." if file.sha256 else ""
            answer(f"{'':25}{file.name}: {file.gigabytes:.1f} GB, {store.state(model, file)}{pin}")
            answer(f"{'':27}{file.about + ', ' if file.about else ''}from {file.url}")


def _as_json(model) -> dict:
    from storycli import store

    files = [asdict(file) | {"url": file.url, "state": store.state(model, file)} for file in model.files]
    missing = [file.name for file in model.missing()]
    return asdict(model) | {"folder": model.folder, "files": files, "missing": missing}


@app.command()
def pull(
    name: Name,
    source: Annotated[
        str,
        Option(
            "--from",
            metavar="PLACE",
            envvar="STORYCLI_MIRROR",
            help="A folder, or the address of one, that has the files; their publishers otherwise.",
        ),
    ] = "",
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask before gigabytes.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch the weights of a model; a fetch that was interrupted goes on where it stopped."""
    from storycli import catalogue, store

    model = catalogue.weights(name)
    if model.absent():
        tell_terms(model)
        _ask(name, store.gigabytes_to_fetch(model), yes)
        with screen.progress() as report:
            store.pull(model, source, lambda file, done, total: report(f"{file} (MB)", "", done, total))
    answer(str(model.folder))


def _ask(name: str, gigabytes: float, yes: bool) -> None:
    """Let a person decide about gigabytes; where none can be asked, they have to have said so."""
    from storycli.errors import UsageError

    if yes or gigabytes < MUCH:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{name}: this would fetch {gigabytes:.1f} GB, and there is nobody to ask", "add --yes")
    if not confirm(f"Fetch {gigabytes:.1f} GB?", err=True):
        raise Exit(1)


@app.command("import")
def import_files(
    name: Name,
    files: Annotated[
        list[str],
        Argument(metavar="FILE...", help="Files or folders with names as published, or NAME=FILE for others."),
    ],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take weights that you already have; where the disk allows it they are not copied."""
    from storycli import catalogue, store

    model = catalogue.weights(name)
    tell_terms(model)
    with screen.progress() as report:
        unlike = store.take_in(model, files, lambda file, done, total: report(f"{file} (MB)", "", done, total))
    for file in unlike:
        screen.warn(f"{file} is not the published file; it is taken as it is")
    if missing := model.missing():
        screen.say(f"still missing: {', '.join(file.name for file in missing)}")
    answer(str(model.folder))


@app.command()
def path(name: Name) -> None:
    """Print the folder that a model's weights are in."""
    from storycli import catalogue

    answer(str(catalogue.weights(name).folder))


@app.command()
def rm(
    name: Name,
    forget: Annotated[
        bool, Option("--forget", help="Also forget their digests, so that other files may come in their place.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Delete the fetched weights of a model."""
    from storycli import catalogue, store

    freed = store.remove(catalogue.weights(name), forget=forget)
    screen.say(f"deleted {freed / 1e9:.1f} GB")


def tell_terms(model) -> None:
    """Say what a model may be used for, before it is used for the first time."""
    from storycli import store

    if store.first_use(model):
        screen.show(f"{model.name}: {model.licence}. {model.limits}")
