"""Narration: the text of each plot read aloud, by an offline English voice or by a speech service.

The offline voice is the package ``hibari-tts`` (extra ``narration``), the service any server with OpenAI's
``/audio/speech``, found by ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL``.
"""

import functools
import unicodedata
import wave
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np

from storycli import config
from storycli.errors import StoryError
from storycli.media import sound
from storycli.media.ffmpeg import replacing

LATIN_SHARE = 0.9  # of its letters, for a text that an English voice may read
SPEECH_MODEL = "gpt-4o-mini-tts"
SPEAKERS = {"offline": "heart", "openai": "alloy"}
SEED = 0  # of the offline voice's breath: the same text gives the same sound
TIMEOUT = 60.0  # seconds
INSTALL = "pip install 'storycli[narration]'"

Speaker = Callable[[str, Path], None]  # writes a text as a wav file


def narrate(
    texts: Sequence[str],
    folder: Path | str,
    *,
    voice: Literal["offline", "openai"] = "offline",
    speaker: str | None = None,
    tts_model: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path | None, ...]:
    """Read each text into a wav file of ``folder``; None for one without a word.

    ``speaker`` is a name that the voice knows, ``tts_model`` one that the speech service does. ``progress`` is told how
    many texts are done, and of how many.

    Raises StoryError when the voice is not there, cannot read the language, or the service fails.
    """
    speaker = speaker or SPEAKERS[voice]
    say = _offline(texts, speaker) if voice == "offline" else _service(speaker, tts_model or SPEECH_MODEL)
    spoken: list[Path | None] = []
    for number, text in enumerate(texts, start=1):
        if any(letter.isalnum() for letter in text):
            path = Path(folder) / f"narration-{number:02}.wav"
            with replacing(path) as temporary:
                say(text, temporary)
            spoken.append(path)
        else:
            spoken.append(None)
        if progress:
            progress(number, len(texts))
    return tuple(spoken)


def check(voice: str) -> None:
    """Raises StoryError where a voice is not there to be used."""
    if voice == "offline":
        if find_spec("hibari") is None:
            raise StoryError("the offline voice is not installed", INSTALL)
    elif not any(config.service()):
        raise StoryError("there is no OPENAI_API_KEY for the speech service", "set it, or use --voice offline")


def _offline(texts: Sequence[str], speaker: str) -> Speaker:
    foreign = next((text for text in texts if not _is_latin(text)), None)
    if foreign is not None:
        raise StoryError(
            f"the offline voice reads English only, and this is in another script: {foreign[:40]}",
            "narrate with --voice openai, or show the text with --subtitles",
        )
    try:
        from hibari import Hibari
        from hibari.voices import voice_path
    except ImportError as error:
        raise StoryError("the offline voice is not installed", INSTALL) from error
    try:
        voice = _loaded(Hibari, voice_path, speaker)
    except (ValueError, FileNotFoundError) as error:
        raise StoryError(f"the offline voice has no speaker {speaker!r} here", "use 'heart'") from error

    def say(text: str, path: Path) -> None:
        samples = np.rint(np.clip(voice(text, seed=SEED), -1, 1) * 32767).astype("<i2")
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(voice.sample_rate)
            file.writeframes(samples.tobytes())

    return say


@functools.cache
def _loaded(network: Callable, path_of: Callable, speaker: str) -> Callable:
    """A speaker's network, which is asked for one text after another."""
    return network(model=path_of(speaker, download_missing=False), voice=speaker)


def _service(speaker: str, model: str) -> Speaker:
    import openai

    from storycli.llm_server import connection

    check("openai")
    client = connection(*config.service(), seconds=TIMEOUT, retries=2)

    def say(text: str, path: Path) -> None:
        try:
            answer = client.audio.speech.create(model=model, voice=speaker, input=text, response_format="wav")
        except openai.APIStatusError as error:
            raise StoryError(f"the speech service refused with status {error.status_code}", HINT) from None
        except openai.OpenAIError as error:
            raise StoryError(f"the speech service failed: {type(error).__name__}", HINT) from None
        path.write_bytes(answer.content)
        try:
            sound.seconds(path)
        except StoryError as error:
            raise StoryError("the speech service answered with something that is no sound", HINT) from error

    return say


HINT = "check OPENAI_API_KEY, OPENAI_BASE_URL and STORYCLI_TTS_MODEL, or use --voice offline"


def _is_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return not letters or latin >= LATIN_SHARE * len(letters)
