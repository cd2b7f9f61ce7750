"""Pictures of a character, of any kind that people have, as squares of pixels."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from storycli.errors import StoryError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # whatever a file is called; EPS, for one, is a program
MOST = 20
LARGEST = 100_000_000  # pixels; a file that claims more is refused before it is decoded
OURS = "preview"  # pictures that training writes beside those it reads begin with this


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, in the order of their names.

    Raises StoryError when the folder is missing, or holds no pictures or too many.
    """
    if not folder.is_dir():
        raise StoryError(f"{folder} is not a folder", "give a folder with a few pictures of the character")
    found = among(folder)
    if not found:
        raise StoryError(
            f"there are no pictures in {folder}", "put 3 to 10 pictures of the character there (png, jpg, webp ...)"
        )
    if len(found) > MOST:
        raise StoryError(f"{folder} holds {len(found)} pictures; {MOST} is the most", "keep the best 5 to 10 of them")
    return found


def among(folder: Path) -> list[Path]:
    """The files in a folder that are pictures by their names, but for training's own; in the order of their names."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith((OURS, ".")))


def read(path: Path, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture as a square, uint8 (size,size,3), and its opacity (size,size) in [0, 1] where it has transparency.

    Orientation, palettes, CMYK, 16-bit grey and animation (first frame) are dealt with; transparent parts become white.
    Raises StoryError for files that are no picture, are damaged, or would be huge in memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as file:
                if file.width * file.height > LARGEST:
                    raise Image.DecompressionBombError
                if min(file.size) < 16:
                    raise StoryError(
                        f"{path} is too small: {file.width}x{file.height}", "use pictures of 128 or more pixels"
                    )
                image = ImageOps.exif_transpose(file)
                image = _eight_bits(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise StoryError(
            f"{path} is too large to open safely", f"scale it down below {LARGEST // 10**6} megapixels"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise StoryError(f"{path} cannot be read as a picture", "replace or remove it") from error
    image = _frame(image, size)
    pixels = np.asarray(image, dtype=np.float32)
    opacity = pixels[..., 3:] / 255
    flat = np.uint8(np.round(pixels[..., :3] * opacity + 255 * (1 - opacity)))
    return flat, opacity[..., 0] if opacity.min() < 1 else None


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        low, high = float(values.min()), float(values.max())
        image = Image.fromarray(np.uint8((values - low) / max(high - low, 1e-6) * 255))
    return image.convert("RGBA")


def _frame(image: Image.Image, size: int) -> Image.Image:
    """A square about what is opaque with some air, or else the middle square."""
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if image.getextrema()[3][0] < 128 and box:
        shown = image.crop(box)
        shown.thumbnail((4 * size, 4 * size), Image.Resampling.LANCZOS)  # or the square about a long one is huge
        half = 0.58 * max(shown.size)
        x, y = shown.width / 2, shown.height / 2
        box = tuple(round(v) for v in (x - half, y - half, x + half, y + half))
        return shown.crop(box).resize((size, size), Image.Resampling.LANCZOS)
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
