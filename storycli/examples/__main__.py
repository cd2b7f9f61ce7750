"""Draw the pictures of the hero and the clip library: ``python -m storycli.examples ASSETS [FOLDER]``.

ASSETS is a folder filled by ``storycli.world.generator.fetch_assets``. The clips show training characters only, one
clip for every action in every place where it makes sense, so the hero of the example is new to all of them.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from storycli.media import video
from storycli.media.ffmpeg import replacing
from storycli.world.generator import FRAMES_PER_SECOND, Scene, World
from storycli.world.words import held_out_pair, with_article

HERO = "teddy"
POSES = (
    ("sit", "bedroom", "right"),
    ("walk", "park", "right"),
    ("dance", "garden", "left"),
    ("jump", "beach", "right"),
    ("approach", "mountains", "left"),
    ("sit", "kitchen", "left"),
)
PICTURE_SIZE = 512
CLIP_SIZE, CLIP_FRAMES = 256, 24
AGAIN = {"swim": 4, "sail": 4, "drive": 2, "fly": 2}
SOURCE, LICENCE = "storybook world (Fluent Emoji by Microsoft)", "MIT"


def draw_hero(assets: Path, folder: Path) -> list[Path]:
    """Pictures of the hero, alone, in different poses and places."""
    world, paths = World(assets, size=PICTURE_SIZE), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, (action, place, direction) in enumerate(POSES, 1):
        fixed = dict(action=action, place=place, direction=direction, companion="", weather="", camera="still")
        scene = world.scene(number, "held_out", character=HERO, **fixed)
        paths.append(folder / f"{number:02d}.png")
        Image.fromarray(world.still(scene, frame=12).frames[0]).save(paths[-1], optimize=True)
    return paths


def clip_scenes(world: World) -> Iterator[Scene]:
    """Every action in every place where it makes sense, the characters taking turns; never a held-out pair."""
    turn = 0
    for action in world.actions:
        for place in world.places:
            for again in range(AGAIN.get(action, 1) if world.tables.fits(action, place) else 0):
                while True:
                    character = world.train_characters[turn % len(world.train_characters)]
                    turn += 1
                    if not held_out_pair(character, action) and not held_out_pair(character, place):
                        break
                yield world.scene(turn * 10 + again, character=character, action=action, place=place, companion="")


def caption(world: World, scene: Scene) -> str:
    """Who does what, in all words for it, and where: "A bear walking, strolling or wandering in a park."

    People ask for a motion in words of their own, and sentences about the same place resemble each other more.
    """
    who, where = world.tables.named(scene.character)[0], world.places[scene.place].phrases[0]
    *does, last = (verb.split("/")[1] for verb in world.actions[scene.action].verbs)
    said = f"{with_article(who)} {', '.join(does)} or {last} {where}."
    return said[0].upper() + said[1:]


def draw_clips(assets: Path, folder: Path) -> Path:
    """Write ``folder/clips/*.mp4`` and the table ``folder/clips.csv``, and return the table."""
    world = World(assets, size=CLIP_SIZE)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for scene in clip_scenes(world):
        clip = world.clip(scene, CLIP_FRAMES)
        name = f"clips/{scene.action}-{scene.place}-{scene.character}.mp4".replace(" ", "-")
        video.write(folder / name, clip.frames, FRAMES_PER_SECOND, crf=26)
        rows.append((name, caption(world, scene), SOURCE, LICENCE))
    with replacing(folder / "clips.csv") as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "caption", "source", "licence"))
        table.writerows(rows)
    return folder / "clips.csv"


if __name__ == "__main__":
    assets, *rest = map(Path, sys.argv[1:])
    folder = rest[0] if rest else Path(__file__).parent
    draw_hero(assets, folder / HERO)
    draw_clips(assets, folder)
