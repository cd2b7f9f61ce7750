"""The weights on disk: fetched from their publishers or a mirror, taken from files at hand, counted, deleted."""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from storycli import download, pins
from storycli.catalogue import WeightFile, Weights
from storycli.errors import StoryError, UsageError
from storycli.locks import alone

log = logging.getLogger(__name__)

TERMS = ".terms-told"  # in a model's folder, once they have been
Report = Callable[[str, int, int], None]  # of a file: its name, MB here, MB in all


def state(weights: Weights, file: WeightFile) -> str:
    """``here``, ``not here``, or how much of a file is."""
    if weights.path(file).is_file():
        return "here"
    part = download.have(weights.path(file))
    return f"{part / 1e9:.1f} GB of it" if part else "not here"


def gigabytes_to_fetch(weights: Weights) -> float:
    """About what ``pull`` has yet to bring."""
    files = weights.absent()
    return max(0.0, sum(file.gigabytes - download.have(weights.path(file)) / 1e9 for file in files))


def pull(weights: Weights, mirror: str = "", report: Report | None = None) -> None:
    """Bring the files that are not here, each of them whole and right or not at all.

    ``mirror`` is a folder or the address of one, in which the files lie under ``NAME/`` or by themselves (an address:
    under ``NAME/``); without one they come from their publishers. One that rendering does not need may fail to come.
    Raises StoryError.
    """
    if weights.built_in:
        raise StoryError(f"{weights.name} is built in, and not whole", "install storycli again")
    with _alone(weights):
        for file in weights.absent():
            expected = pins.pinned(weights.path(file)) or file.sha256
            try:
                _bring(weights, file, _source(weights, file, mirror), expected, report, published=True)
            except StoryError as error:
                if not file.optional:
                    raise
                log.warning("%s; it is left out, as rendering does not need it", error.message)


def take_in(weights: Weights, given: Sequence[str], report: Report | None = None) -> list[str]:
    """Take files that one already has, and return the names of those that are not the published ones.

    Each of ``given`` is a file or a folder of files with names as published, or ``NAME=FILE``. A file gets a second
    name, where the disk allows that, and is not copied. It replaces one that is here. Raises StoryError.
    """
    _fetched(weights, "replaced")
    unlike = []
    with _alone(weights):
        for file, source in _recognised(weights, given).items():
            found = _bring(weights, file, source, "", report, published=False)
            if not found.startswith(file.sha256):
                unlike.append(file.name)
    return unlike


def remove(weights: Weights, *, forget: bool = False) -> int:
    """Delete the files of a model, and return how many bytes that freed. ``forget`` their digests too."""
    _fetched(weights, "deleted")
    freed = 0
    if weights.folder.is_dir():
        with _alone(weights):
            freed = sum(path.stat().st_size for path in weights.folder.iterdir() if path.is_file())
            shutil.rmtree(weights.folder)
    if forget:
        pins.forget(weights.folder)
    return freed


def _fetched(weights: Weights, done: str) -> None:
    """Refuse to change what belongs to the package."""
    if weights.built_in:
        raise UsageError(f"{weights.name} is built in", f"only fetched weights can be {done}")


def first_use(weights: Weights) -> bool:
    """Whether this is the first time that a model is used here, so that its terms have to be told; true only once."""
    told = weights.folder / TERMS
    if not weights.limits or told.exists():
        return False
    with suppress(OSError):  # in a folder that is not ours to write, it is told every time
        told.parent.mkdir(parents=True, exist_ok=True)
        told.touch()
    return True


def _bring(
    weights: Weights, file: WeightFile, source: str | Path, sha256: str, report: Report | None, *, published: bool
) -> str:
    path = weights.path(file)
    if isinstance(source, Path) and file.namesake and source.name == file.name and source.parent.name != weights.name:
        log.warning("%s may be %s; what does is published as %s", source, file.namesake, file.known_names[0])
    tell = partial(_in_megabytes, report, file.name) if report else None
    found = download.fetch(source, path, sha256=sha256, report=tell, inspect=partial(_inspect, file))
    pins.pin(path, found, str(source), published=published)
    return found


def _in_megabytes(report: Report, name: str, done: int, total: int) -> None:
    report(name, done // 10**6, max(1, total // 10**6))


def _inspect(file: WeightFile, part: Path) -> None:
    """Refuse what is not weights, the page of an error, half a file, a program; and weights of something else."""
    if file.name == "config.json":
        return
    from models.weights import WeightsError, read_state_dict

    try:
        names = read_state_dict(part).keys()
    except WeightsError as error:
        raise StoryError(error.message, error.hint) from error
    for known in file.holds:
        if not any(name == known or name.endswith(f".{known}") for name in names):
            raise StoryError(
                f"this is not {file.name}: it holds no {known}",
                "it may be of another model; what it is, and where from, says: storycli models list",
            )


def _source(weights: Weights, file: WeightFile, mirror: str) -> str | Path:
    """Where to take a file from."""
    if not mirror:
        return file.url
    if urlsplit(mirror).scheme in ("http", "https"):
        return f"{mirror.rstrip('/')}/{weights.name}/{file.name}"
    folder = Path(mirror).expanduser()
    places = [at / name for at in (folder / weights.name, folder) for name in file.known_names]
    for place in places:
        if place.is_file():
            return place
    raise StoryError(f"{folder} does not hold {file.name}", f"looked for {', '.join(map(str, places))}")


def _recognised(weights: Weights, given: Sequence[str]) -> dict[WeightFile, Path]:
    """Which file of the model each given file is, by its name."""
    by_name = {name: file for file in weights.files for name in file.known_names}
    found = {}
    for text in given:
        name, _, path = text.rpartition("=") if not Path(text).exists() else ("", "", text)
        path = Path(path).expanduser()
        if not path.exists():
            raise StoryError(f"there is no file {path}")
        inside = [at for name in by_name if (at := path / name).is_file()] if path.is_dir() else [path]
        for at in inside:
            if (name or at.name) not in by_name:
                raise UsageError(
                    f"{at}: {weights.name} has no file of that name",
                    f"say which it is, as NAME={at}, of: {', '.join(file.name for file in weights.files)}",
                )
            found.setdefault(by_name[name or at.name], at)
    if not found:
        raise StoryError(f"no files of {weights.name} in {', '.join(given)}", f"they are called {', '.join(by_name)}")
    return found


def _alone(weights: Weights) -> AbstractContextManager[None]:
    """One at a time changes the files of a model."""
    weights.folder.mkdir(parents=True, exist_ok=True)
    return alone(pins.weights_folder() / f".{weights.name}.lock", weights.folder)
