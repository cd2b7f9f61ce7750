"""Does the picture show what the prompt says? Unseen prompts with the first seed and no picking, and unseen words.

People count on the sheet. The watcher (models/watcher.py) counts beside them. It makes mistakes with real clips, too,
so its count is given for those as well.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from storycli import plots
from storycli.catalogue import Model
from storycli.evaluate.bench import Variant
from storycli.evaluate.clips import Files, Retold, Scenes
from storycli.evaluate.study import Study
from storycli.retrieve import Library
from storycli.world import words
from storycli.world.generator import World
from storycli.world.words import Scene

PROMPTS = 24
FIRST = 950_000_000
# In no caption of the core world, but known to the text encoder; each with the nearest word that captions do use.
UNSEEN_WORDS = (
    ("character", "a hound", "dog"),
    ("character", "a hare", "rabbit"),
    ("character", "a sorcerer", "wizard"),
    ("character", "a lad", "boy"),
    ("action", "snoozing", "sleep"),
    ("action", "sprinting", "run"),
    ("action", "marching", "walk"),
    ("action", "waltzing", "dance"),
    ("place", "on the shore", "beach"),
    ("place", "downtown", "city"),
    ("place", "in the highlands", "mountains"),
    ("place", "on the seabed", "underwater"),
)
IN_SCENES = 2  # each


def blind_scenes(assets: Path, count: int = PROMPTS) -> tuple[list[Scene], tuple[str, ...]]:
    """Scenes whose character never met their action or place in training, and what they are told as."""
    world, found, seed = World(assets), [], FIRST
    while len(found) < count:
        scene = world.scene(seed, "held_out")
        if scene.character in world.train_characters:
            found.append(scene)
        seed += 1
    return found, tuple(world.caption(scene, random.Random(scene.seed)) for scene in found)


def blind_study(prompts: Sequence[str], model: Model, steps: int, seed: int = 0) -> Study:
    """The prompts rendered as a film's plots are: guided by the clip that the built-in library finds for each.

    The query is the one that the offline splitter makes of it.
    """
    library = Library(None)
    queries = [plots.split(prompt, llm="offline").plots[0].query for prompt in prompts]
    found = [library.search(query, 1)[0].clip for query in queries]
    clips = Files(
        told=tuple((c.path, c.caption) for c in found), frames=model.frames, fps=model.fps, size=model.sampled
    )
    how = Variant(name="blind", tau=model.tau, guidance=model.guidance)
    return Study(
        clips=Retold(clips=clips, captions=tuple(prompts)), variants=(how,), model=model.name, steps=steps, seed=seed
    )


def words_study(assets: Path, model: Model, steps: int, seed: int = 0) -> tuple[Study, list[Scene], list[str]]:
    """Prompts with a word of the captions, each followed by the same with an unseen word in its place; text only.

    Depth would give the answer away. Also returns the scene and the unseen word of each two prompts.
    """
    world, scenes, told, captions = World(assets), [], [], []
    for number, (slot, word, meant) in enumerate(UNSEEN_WORDS):
        for again in range(IN_SCENES):
            scene = world.scene(FIRST + 1000 * (number + 1) + again, **{slot: meant})
            scenes.append(scene)
            told.append(word)
            captions += [plain(scene), plain(scene, **{slot: word})]
    how = Variant(name="words", tau=1.0, guidance=model.guidance)
    clips = Retold(clips=Scenes(assets=assets, count=len(captions), first=FIRST), captions=tuple(captions))
    return Study(clips=clips, variants=(how,), model=model.name, steps=steps, seed=seed), scenes, told


def plain(scene: Scene, **told: str) -> str:
    """The scene in the plainest words of the captions, or with others where they are given."""
    said = {
        "character": words.with_article(words.CORE[scene.character].names[0]),
        "action": words.ACTIONS[scene.action].verbs[0].split("/")[1],
        "place": words.PLACES[scene.place].phrases[0],
    } | told
    sentence = f"{said['character']} is {said['action']} {said['place']}."
    return sentence[0].upper() + sentence[1:]


def drawn(assets: Path, scenes: Sequence[Scene]) -> list[np.ndarray]:
    """What the world itself makes of the scenes: uint8 (f, H, W, 3) each."""
    world = World(assets)
    return [world.clip(scene).frames for scene in scenes]
