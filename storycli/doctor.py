"""Is everything here that a film needs? One check a line, each with the fix when it is not well."""

import os
import shutil
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storycli import catalogue, cluster, config
from storycli.errors import StoryError
from storycli.media import ffmpeg

ENOUGH_MEMORY = 3.0  # GiB
ENOUGH_DISK = 1.0  # GiB
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at; ``fix`` is empty when nothing has to be done."""

    name: str
    well: bool
    found: str
    fix: str = ""


def checks() -> list[Check]:
    """All that a film needs, looked at now."""
    return [_told(name, look) for name, look in LOOKS.items()]


def _told(name: str, look: Callable[[], tuple[str, str]]) -> Check:
    """A check from a look that returns what it found and what to do about it, or raises."""
    try:
        found, fix = look()
    except StoryError as error:
        return Check(name=name, well=False, found=error.message, fix=error.hint)
    return Check(name=name, well=not fix, found=found, fix=fix)


def _ffmpeg() -> tuple[str, str]:
    found = ffmpeg.find()
    return f"{found.version} ({found.path})", ""


def _device() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        free, whole = (size / 2**30 for size in torch.cuda.mem_get_info())
        return f"{torch.cuda.get_device_name(0)}, {free:.0f} of {whole:.0f} GiB free", ""
    if torch.backends.mps.is_available():
        return "Apple GPU", ""
    found = f"CPU, {cluster.cores()} cores, {torch.get_num_threads()} used"
    if not shutil.which("nvidia-smi"):
        return found, ""
    mend = "see with nvidia-smi that the driver is well, then install a torch that it can run (https://pytorch.org)"
    return f"{found}; there is an NVIDIA driver, but torch {torch.__version__} finds no GPU", mend


def _memory() -> tuple[str, str]:
    free = _free_memory()
    fix = "close other programs, or render with --size 256x256" if free < ENOUGH_MEMORY else ""
    return f"{free:.1f} GiB free; rendering takes {catalogue.MODELS['storybook'].memory:.1f}", fix


def _free_memory() -> float:
    """GiB that a new program may use."""
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    facts = Path("/proc/meminfo")
    if facts.exists():  # counts what the system's caches would give back
        told = dict(line.split(":") for line in facts.read_text().splitlines())
        free = int(told.get("MemAvailable", "0 kB").split()[0]) * 1024
    return free / 2**30


def _disk() -> tuple[str, str]:
    home = config.home()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return f"{home} cannot be written", "set STORYCLI_HOME to a folder that can"
    free = shutil.disk_usage(there).free / 2**30
    return f"{free:.0f} GiB free for {home}", "free some space" if free < ENOUGH_DISK else ""


def _weights() -> tuple[str, str]:
    catalogue.choose("storybook", "cpu")
    here = [model.name for model in catalogue.MODELS.values() if not model.missing()]
    found = f"{', '.join(here)}; --model auto takes {catalogue.choose('auto', 'auto').name}"
    for model in catalogue.MODELS.values():
        if model.missing() and len(model.absent()) < len(model.files):  # it was begun
            lacking = ", ".join(file.name for file in model.missing())
            return f"{found}; of {model.name} there is no {lacking}", f"storycli models pull {model.name}"
    return found, ""


def _clips() -> tuple[str, str]:
    from storycli.retrieve import Library

    folder = config.library_folder(config.load({}).index)
    status = Library(folder).status()
    where = "built in" if folder is None else str(folder)
    fix = f"storycli index --prune ({len(status.missing)} files are gone)" if status.missing else ""
    return f"{status.shots} clips of {status.files} files, {where}", fix


def _language_model() -> tuple[str, str]:
    key, address = config.service()
    if not (key or address):
        return "none set; English stories are read offline", ""
    if not (key.isascii() and key.isprintable()):
        return "OPENAI_API_KEY holds characters that no key has", "set it again, or use --llm offline"
    try:
        base, login = _without_login(address or OPENAI)
        request = urllib.request.Request(f"{base}/models")
        if login or key:
            credentials = f"Basic {b64encode(login.encode()).decode()}" if login else f"Bearer {key}"
            request.add_unredirected_header("Authorization", credentials)
        with urllib.request.urlopen(request, timeout=5):
            return f"{base} answers", ""
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return f"{base} refuses the key ({error.code})", "set OPENAI_API_KEY to a key that it knows"
        return f"{base} answers with {error.code}", "" if error.code == 404 else "look at the server's log"
    except (InvalidURL, ValueError):  # their texts quote what they are about
        return "OPENAI_BASE_URL is not an address", "it looks like http://localhost:11434/v1"
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "what it says is not HTTP"
        return (
            f"{base} does not answer: {reason}",
            "start the server, or mend OPENAI_BASE_URL, or use --llm offline",
        )


def _without_login(address: str) -> tuple[str, str]:
    """A server's address as it may be shown, and the ``name:password`` that stood in it. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(address)
    login, _, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}", unquote(login)


LOOKS = {
    "ffmpeg": _ffmpeg,
    "device": _device,
    "memory": _memory,
    "disk": _disk,
    "weights": _weights,
    "clips": _clips,
    "llm": _language_model,
}
