"""Values by their content: two inputs are the same when their canonical texts are."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from storycli.story import Character, Clip


def key(value: Any) -> str:
    """The sha256 of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def canonical(value: Any) -> str:
    """``value`` as text: files and folders by what is in them, clips by id, a character by where it is."""
    return json.dumps(by_value(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@functools.singledispatch
def by_value(value: Any) -> Any:
    """``value`` as JSON can say it."""
    if hasattr(value, "identity"):
        return by_value(value.identity())
    if dataclasses.is_dataclass(value):
        return {field.name: by_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"no digest for a {type(value).__name__}")


@by_value.register(str | int | float | None)
def _(value: Any) -> Any:
    return value


@by_value.register(list | tuple)
def _(value: Any) -> Any:
    return [by_value(item) for item in value]


@by_value.register(dict)
def _(value: Any) -> Any:
    return {str(name): by_value(item) for name, item in value.items()}


@by_value.register(BaseModel)
def _(value: Any) -> Any:
    return by_value(dict(value))


@by_value.register(Clip)
def _(value: Any) -> Any:
    return value.id


@by_value.register(Character)
def _(value: Any) -> Any:
    return by_value(dict(value) | {"dir": str(value.dir)})


@by_value.register(Path)
def _(value: Any) -> Any:
    if value.is_dir():
        files = (found for found in sorted(value.rglob("*")) if found.is_file())
        return key([[found.relative_to(value).as_posix(), file(found)] for found in files])
    return file(value) if value.exists() else None
