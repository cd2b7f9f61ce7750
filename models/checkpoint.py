"""Weights files in and out, safely: nothing in one is ever executed.

Safetensors hold no code, and torch files are read with ``weights_only=True`` and a short list of harmless
stand-ins. Networks are built without memory and take the file's own tensors, mapped from disk, so that a
model is never in memory twice.
"""

import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
StateDict = dict[str, Tensor]


class WeightsError(Exception):
    """Weights that cannot be used: what is wrong with which file, then what to do about it."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.message = message
        self.hint = hint


class Inert:
    """Stands in for the bookkeeping objects in published checkpoints; takes any state and does nothing."""

    def __new__(cls, *args: object) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


# What published checkpoints hold beside tensors. All of it is dropped.
BOOKKEEPING = (
    "parse_config.ConfigParser",  # Frozen in Time
    "pathlib.PosixPath",
    "pathlib._local.PosixPath",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",  # latent diffusion
    "numpy.core.multiarray.scalar",  # numbers in a training log, before numpy 2 ...
    "numpy._core.multiarray.scalar",  # ... and since
    "numpy.dtype",
)
OTHER_MODEL = "These are the weights of another model, or of another size or version of this one."
AGAIN = "The file may be half downloaded or of another kind; fetch it again."


def read_state_dict(path: Path | str) -> StateDict:
    """The tensors of a .safetensors, .ckpt, .pt, .pth or .pth.tar file by name, mapped from disk.

    A dict around them (``state_dict``, or ``model`` beside an ``optimizer``) and a ``module.`` before every name are
    taken off. Raises WeightsError for a file that is missing, cut short, or holds anything but weights.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}")
    try:
        stored = load_file(path) if _is_safetensors(path) else _read_torch(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", AGAIN) from error
    if isinstance(stored, Mapping):
        if isinstance(stored.get("state_dict"), Mapping):
            stored = stored["state_dict"]
        elif "optimizer" in stored and isinstance(stored.get("model"), Mapping):
            stored = stored["model"]
    named = isinstance(stored, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in stored.items())
    if not named or not stored:
        raise WeightsError(f"{path} does not hold a state dict", AGAIN)
    if all(key.startswith("module.") for key in stored):
        return {key.removeprefix("module."): tensor for key, tensor in stored.items()}
    return dict(stored)


def _is_safetensors(path: Path) -> bool:
    """By its beginning, the length of a header in JSON; files keep their kind when they are renamed."""
    with path.open("rb") as file:
        start = file.read(9)
    return path.suffix == ".safetensors" or (start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**27)


def _read_torch(path: Path) -> Any:
    """A torch file, zipped or of the legacy kind, without executing anything in it."""
    zipped = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if not zipped and file.read(2) == b"PK":
            raise WeightsError(f"{path} is cut short", AGAIN)
    with torch.serialization.safe_globals([(Inert, name) for name in BOOKKEEPING]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)
        except Exception as error:  # torch raises many types for a damaged file
            asked_for = re.search(r"GLOBAL ([\w.]+)", str(error))
            if asked_for:
                raise WeightsError(
                    f"{path} is refused: it is no plain weights file but asks for {asked_for[1]}",
                    "Such a file can run code. Get the weights as .safetensors, or from their authors.",
                ) from error
            if isinstance(error, pickle.UnpicklingError):  # whose text advises to load unsafely
                raise WeightsError(f"{path} is not a weights file", AGAIN) from error
            raise WeightsError(f"{path} cannot be read: it is damaged, or no weights file", AGAIN) from error


def fill(network: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Give a network, such as one from ``build``, the tensors of a state dict; both must match exactly.

    Tensors of another float type are cast. Raises WeightsError with the first differences each way.
    """
    expected = network.state_dict()
    wrong = [
        first_few("missing", expected.keys() - state.keys()),
        first_few("not expected", state.keys() - expected.keys()),
        first_few(
            "of another shape",
            (
                f"{key} {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
                for key in expected.keys() & state.keys()
                if state[key].shape != expected[key].shape
            ),
        ),
    ]
    if any(wrong):
        raise WeightsError(
            f"{source} does not fit {type(network).__name__}: " + "; ".join(filter(None, wrong)),
            OTHER_MODEL,
        )
    network.load_state_dict({k: v.to(expected[k].dtype) for k, v in state.items()}, assign=True)
    for name, buffer in network.named_buffers():
        if buffer.is_meta:  # not in the file: what the constructor would have put there
            _restore(network, name, buffer)


def first_few(what: str, names: Iterable[str], most: int = 3) -> str:
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}" if names else ""


def _restore(network: nn.Module, name: str, buffer: Tensor) -> None:
    """Recompute a buffer of transformers' models that no file holds."""
    owner, _, leaf = name.rpartition(".")
    values = {
        "position_ids": lambda: torch.arange(buffer.shape[-1]),
        "token_type_ids": lambda: torch.tensor(0),
    }
    setattr(network.get_submodule(owner), leaf, values[leaf]().expand(buffer.shape).clone())


def build(network: Callable[..., Network], *args: Any, **kwargs: Any) -> Network:
    """A network on ``meta``, in evaluation mode: shapes without memory, to be filled."""
    with torch.device("meta"):
        return network(*args, **kwargs).eval()


def save(
    network: nn.Module, path: Path | str, config: Any, *, dtype: torch.dtype | None = None, **metadata: str
) -> None:
    """Write a network, its config dataclass and further text as one safetensors file, whole or not at all.

    ``dtype`` stores the weights in another float type; ``load`` gives them back in the network's own.
    """
    path = Path(path)
    tensors = {}
    for key, tensor in network.state_dict().items():
        tensors[key] = tensor.to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
    header = {"network": type(network).__name__, "config": json.dumps(asdict(config)), **metadata}
    write_tensors(path, tensors, header)


def write_tensors(path: Path | str, tensors: StateDict, metadata: Mapping[str, str]) -> None:
    """A safetensors file that appears by renaming only, so that nobody meets half of one."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.close(handle)
        save_file(tensors, name, dict(metadata))
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def read_metadata(path: Path | str) -> dict[str, str]:
    """The text stored beside the tensors of a safetensors file. Raises WeightsError."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", AGAIN) from error


def load(path: Path | str, network: Callable[[Any], Network], config_class: type) -> Network:
    """A network that ``save`` wrote, in evaluation mode: ``load(path, VideoUNet, UNetConfig)``.

    Raises WeightsError when the file is damaged or holds another network.
    """
    header = read_metadata(path)
    if header.get("network") != network.__name__:
        raise WeightsError(
            f"{path} holds {header.get('network', 'no network of this project')}, not {network.__name__}"
        )
    try:
        config = config_class(**{key: _frozen(value) for key, value in json.loads(header["config"]).items()})
    except (TypeError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} was written by another version: {error}", "Train or fetch the weights again."
        ) from error
    loaded = build(network, config)
    fill(loaded, read_state_dict(path), path)
    return loaded


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
