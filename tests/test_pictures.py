"""Pictures of a character: every kind that people have, and every way in which files are broken."""

import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from storycli.errors import StoryError
from storycli.media.pictures import pictures, read

RED = (200, 30, 40)


def solid(mode="RGB", colour=RED, size=(64, 48)):
    return Image.new("RGB", size, colour).convert(mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.png", "P"), ("a.jpg", "CMYK"), ("a.webp", "RGB"), ("a.bmp", "RGB"), ("a.tiff", "CMYK")],
)
def test_the_colour_survives_every_format(tmp_path, name, mode):
    solid(mode).save(tmp_path / name)
    pixels, opacity = read(tmp_path / name, 32)
    assert pixels.shape == (32, 32, 3) and opacity is None
    np.testing.assert_allclose(pixels.mean((0, 1)), RED, atol=8)


def test_sixteen_bit_grey_is_stretched_to_eight(tmp_path):
    ramp = np.tile(np.linspace(1000, 60000, 64), (64, 1)).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels, _ = read(tmp_path / "a.png", 64)
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[0, -1].tolist() == [255, 255, 255]


def test_transparency_becomes_white_and_frames_the_character(tmp_path):
    image = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    image.paste((*RED, 255), (300, 50, 360, 150))
    image.save(tmp_path / "a.png")
    pixels, opacity = read(tmp_path / "a.png", 64)
    np.testing.assert_allclose(pixels[32, 32], RED, atol=2)
    assert pixels[2, 2].tolist() == [255, 255, 255]
    assert opacity[32, 32] == 1 and opacity[2, 2] == 0
    assert 0.35 < opacity.mean() < 0.6  # a 60 x 100 figure in a square of 116


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    image = Image.new("RGB", (64, 64), "white")
    image.paste(RED, (0, 0, 64, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    pixels, _ = read(tmp_path / "a.png", 64)
    np.testing.assert_allclose(pixels[60, 32], RED, atol=2)


def test_of_an_animation_the_first_picture_counts(tmp_path):
    solid(size=(32, 32)).save(
        tmp_path / "a.gif", save_all=True, append_images=[solid(colour=(0, 255, 0), size=(32, 32))]
    )
    pixels, _ = read(tmp_path / "a.gif", 32)
    np.testing.assert_allclose(pixels[16, 16], RED, atol=8)


def bomb(path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def test_broken_empty_huge_and_tiny_files_are_refused_by_name(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    solid().save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    bomb(tmp_path / "bomb.png")
    solid(size=(4, 4)).save(tmp_path / "tiny.png")
    for name, reason in [
        ("empty.png", "cannot be read"),
        ("text.jpg", "cannot be read"),
        ("cut.png", "cannot be read"),
        ("bomb.png", "too large"),
        ("tiny.png", "too small"),
    ]:
        with pytest.raises(StoryError, match=f"{name}.*{reason}"):
            read(tmp_path / name, 64)


def test_a_program_that_is_called_a_picture_is_not_run(tmp_path, monkeypatch):
    """EPS is PostScript, and Pillow would have Ghostscript run it."""
    ghostscript, ran = tmp_path / "gs", tmp_path / "ran"
    ghostscript.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    solid().save(tmp_path / "a.eps")
    with pytest.raises(StoryError, match="cannot be read as a picture"):
        read((tmp_path / "a.eps").rename(tmp_path / "a.png"), 32)
    assert not ran.exists()


def test_a_folder_gives_its_pictures_in_order_and_not_what_training_left_there(tmp_path):
    for name in ("b.png", "A.JPG", "preview.png", ".hidden.png"):
        solid().save(tmp_path / name, format="PNG")
    (tmp_path / "notes.txt").touch()
    assert [p.name for p in pictures(tmp_path)] == ["A.JPG", "b.png"]


def test_folders_without_pictures_or_with_too_many_are_refused(tmp_path):
    with pytest.raises(StoryError, match="no pictures"):
        pictures(tmp_path)
    with pytest.raises(StoryError, match="not a folder"):
        pictures(tmp_path / "missing")
    for index in range(21):
        (tmp_path / f"{index}.png").touch()
    with pytest.raises(StoryError, match="holds 21 pictures"):
        pictures(tmp_path)


@pytest.mark.parametrize("size", [(12_000, 2_500), (400, 24_000)])
def test_a_long_picture_with_transparency_is_squared_in_little_memory(tmp_path, size):
    image = Image.new("RGBA", size, (*RED, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png")
    pixels, opacity = read(tmp_path / "a.png", 128)
    assert pixels.shape == (128, 128, 3)
    shown = opacity > 0.5
    assert 0.8 < max(shown.any(0).sum(), shown.any(1).sum()) / 128 < 0.9  # with some air
    np.testing.assert_allclose(pixels[64, 64], RED, atol=60)
