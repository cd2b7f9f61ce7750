"""Draw the pictures of the hero and the clip library: ``python -m storycli.examples ASSETS [FOLDER]``.

ASSETS is a folder filled by ``storycli.world.generator.fetch_assets``. The clips show training characters only, so the
hero of the example is new to all of them. A clip lends its figure's outline to whoever is drawn after it, so everything
is done, wherever it makes sense, by one of each build: an animal with the round head and the small ears that suit most
heroes, a person, and somebody else.
"""

import csv
import sys
from collections.abc import Iterator
from itertools import cycle
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
AGAIN = {"swim": 3, "sail": 3}  # what only one place is made for is shown more often there
BUILDS = {
    "animal": ("bear", "panda", "tiger"),
    "person": ("girl", "boy", "princess", "astronaut", "wizard"),
    "": (
        "penguin", "dog", "rabbit", "dinosaur", "mouse", "fox", "owl", "koala", "pig", "robot", "elephant", "monkey",
        "frog", "chick", "cow", "snowman", "lion", "ghost",
    ),
}  # fmt: skip
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


def clip_scenes(world: World) -> Iterator[tuple[Scene, str]]:
    """Every action in every place where it makes sense, by everyone in turn of each build, with the word for that.

    Never a held-out pair. The camera rests where somebody stays in place, and nothing falls between it and them.
    """
    turns = {build: cycle(members) for build, members in BUILDS.items()}
    seed = 0
    for name, action in world.actions.items():
        rests = {} if action.moving else {"camera": "still"}
        for place in world.places:
            if not world.tables.fits(name, place):
                continue
            for build in list(BUILDS) * AGAIN.get(name, 1):
                fits = (who for who in turns[build] if not held_out_pair(who, name) and not held_out_pair(who, place))
                fixed = dict(character=next(fits), action=name, place=place, companion="", weather="") | rests
                seed += 10
                yield world.scene(seed, **fixed), build


def caption(world: World, scene: Scene, build: str) -> str:
    """Who does what, in all words for it, and where: "An animal, a bear, walking, strolling or wandering in a park."

    People ask for a motion in words of their own, and sentences about the same place resemble each other more.
    """
    who = with_article(world.tables.named(scene.character)[0])
    where = world.places[scene.place].phrases[0]
    *does, last = (verb.split("/")[1] for verb in world.actions[scene.action].verbs)
    if build:
        who = f"{with_article(build)}, {who},"
    said = f"{who} {', '.join(does)} or {last} {where}."
    return said[0].upper() + said[1:]


def draw_clips(assets: Path, folder: Path) -> Path:
    """Write ``folder/clips/*.mp4`` and the table ``folder/clips.csv``, and return the table."""
    world = World(assets, size=CLIP_SIZE)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for scene, build in clip_scenes(world):
        clip = world.clip(scene, CLIP_FRAMES)
        name = f"clips/{scene.action}-{scene.place}-{scene.character}.mp4".replace(" ", "-")
        video.write(folder / name, clip.frames, FRAMES_PER_SECOND, crf=26)
        rows.append((name, caption(world, scene, build), SOURCE, LICENCE))
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
