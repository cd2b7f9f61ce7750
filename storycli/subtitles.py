"""Subtitles and title cards: captions as SubRip for players, as Advanced SubStation for libass to draw."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storycli.errors import StoryError

TEXT_SHARE = 0.058  # of the shorter side of the picture, the height of a line of captions
TITLE_SHARE = 0.1
STYLE_FIELDS = (  # the whole list, in this order: parsers differ in what they let one leave out
    "Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
    "MarginR, MarginV, Encoding"
)
EVENT_FIELDS = "Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"
WHITE, NEAR_BLACK = "&H00FFFFFF", "&H00181818"
BOTTOM, MIDDLE = 2, 5  # Alignment, as on a numeric keypad
OWN_DIRECTION = -1  # Encoding: libass then reads each line from the side from which its script is read


@dataclass(frozen=True, slots=True)
class Caption:
    """A text on screen from ``start`` to ``end``, in seconds of the film."""

    start: float
    end: float
    text: str


def per_shot(texts: Sequence[str], shots: Iterable[tuple[float, float]]) -> tuple[Caption, ...]:
    """Caption each shot of a film, whose times ``film.timeline`` tells, with its text."""
    return tuple(Caption(start, end, text) for text, (start, end) in zip(texts, shots, strict=True) if text.strip())


def srt(captions: Iterable[Caption], *, literally: bool = False) -> str:
    """Return captions as a SubRip file, in which no caption has an empty line: it would end there.

    ``literally`` guards letters that ffmpeg takes for markup, with word joiners, which are invisible.
    """
    blocks = []
    for number, each in enumerate(captions, start=1):
        text = re.sub(r"([<\\])", "\\1\u2060", _lines(each.text)) if literally else _lines(each.text)
        blocks.append(f"{number}\n{_clock(each.start, ',', 3)} --> {_clock(each.end, ',', 3)}\n{text}\n")
    return "\n".join(blocks)


def ass(captions: Iterable[Caption], size: tuple[int, int]) -> str:
    """Return captions as an Advanced SubStation file, drawn at the bottom of a picture of ``size``."""
    return _ass(captions, size, height=round(min(size) * TEXT_SHARE), alignment=BOTTOM)


def title_ass(title: str, seconds: float, size: tuple[int, int]) -> str:
    """Return a title as an Advanced SubStation file, drawn in the middle of a picture of ``size``."""
    return _ass([Caption(0, seconds, title)], size, height=round(min(size) * TITLE_SHARE), alignment=MIDDLE)


def check_fonts(warnings: str) -> None:
    """Raise StoryError when libass said, in ffmpeg's warnings, that it had no font for some letter."""
    missing = sorted({int(code, 16) for code in re.findall(r"any fallback with glyph 0x([0-9A-Fa-f]+)", warnings)})
    if missing:
        letters = " ".join(map(chr, missing[:8]))
        raise StoryError(
            f"no font on this machine has these letters: {letters}",
            "install a font for this script, such as Noto, or use --subtitles soft",
        )
    if "Error opening memory font" in warnings or "No usable fontconfig" in warnings:
        raise StoryError("ffmpeg finds no fonts to draw with", "install fonts, or use --subtitles soft")


def _ass(captions: Iterable[Caption], size: tuple[int, int], *, height: int, alignment: int) -> str:
    margin = round(size[0] * 0.06)
    plain = "0,0,0,0,100,100,0,0"  # not bold, italic, underlined or struck out; no scaling, spacing or turn
    outline = f"1,{max(1, height / 14):.1f},0"
    colours = f"{WHITE},{WHITE},{NEAR_BLACK},{NEAR_BLACK}"
    style = f"Story,Sans,{height},{colours},{plain},{outline},{alignment},{margin},{margin},{margin},{OWN_DIRECTION}"
    events = []
    for each in captions:
        times = f"{_clock(each.start, '.', 2)},{_clock(each.end, '.', 2)}"
        events.append(f"Dialogue: 0,{times},Story,,0,0,0,,{_escaped(each.text)}")
    head = [
        "[Script Info]",
        "ScriptType: v4.00+",
        f"PlayResX: {size[0]}",
        f"PlayResY: {size[1]}",
        "WrapStyle: 0",
    ]
    styles = ["[V4+ Styles]", f"Format: {STYLE_FIELDS}", f"Style: {style}"]
    return "\n".join([*head, "", *styles, "", "[Events]", f"Format: {EVENT_FIELDS}", *events, ""])


def _lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def _escaped(text: str) -> str:
    """Braces would begin an override, a backslash an escape; a word joiner keeps the latter a letter."""
    shown = _lines(text).replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}")
    return shown.replace("\n", "\\N")


def _clock(seconds: float, point: str, digits: int) -> str:
    units = round(max(0.0, seconds) * 10**digits)
    whole, part = divmod(units, 10**digits)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{part:0{digits}}"
