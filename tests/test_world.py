"""The storybook world: reproducible, true to its depth and masks, and honest about what is held out."""

import pkgutil
import random
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from storycli.errors import StoryError
from storycli.world import words
from storycli.world.generator import Scene, World, cache_sprites
from storycli.world.sprites import PACKAGE, Sprite, assets_in, bulge


@pytest.fixture(scope="module")
def world(assets: Path) -> World:
    return World(assets)


def scene(**changes: object) -> Scene:
    plain = Scene(seed=5, character="panda", action="sit", place="park", direction="right")
    return replace(plain, **changes)


def test_a_seed_means_the_same_pixels_in_another_world(world: World, assets: Path) -> None:
    first, second = world.clip(world.scene(11), 4), World(assets).clip(world.scene(11), 4)
    assert first.caption == second.caption
    for name in ("frames", "depth", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_still_is_a_frame_of_the_clip(world: World) -> None:
    shown = scene(action="walk", camera="pan left", weather="snow")
    clip, still = world.clip(shown, 8), world.still(shown, frame=5, num_frames=8)
    np.testing.assert_array_equal(still.frames[0], clip.frames[5])
    np.testing.assert_array_equal(still.depth[0], clip.depth[5])
    np.testing.assert_array_equal(still.mask[0], clip.mask[5])


def test_shapes_and_types(world: World) -> None:
    clip = world.clip(world.scene(3), 3)
    assert clip.frames.shape == (3, 128, 128, 3) and clip.frames.dtype == np.uint8
    assert clip.depth.shape == (3, 128, 128) and clip.depth.dtype == np.uint8
    assert clip.mask.shape == (3, 128, 128) and clip.mask.dtype == bool


@pytest.mark.parametrize("camera", ["still", "zoom in", "pan right"])
def test_a_larger_world_draws_the_same_picture(world: World, assets: Path, camera: str) -> None:
    shown = scene(action="jump", camera=camera, weather="petals")
    small, large = world.still(shown, 6), World(assets, size=256).still(shown, 6)
    shrunk = cv2.resize(large.frames[0], (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(shrunk - small.frames[0]).mean() < 3
    shrunk = cv2.resize(large.depth[0], (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(shrunk - small.depth[0]).mean() < 2


def test_no_training_scene_shows_what_is_held_out(world: World) -> None:
    scenes = [world.scene(seed) for seed in range(3000)]
    shown = {scene.character for scene in scenes} | {scene.companion for scene in scenes if scene.companion}
    assert shown == set(words.CORE)
    for drawn in scenes:
        assert not words.held_out_pair(drawn.character, drawn.action)
        assert not words.held_out_pair(drawn.character, drawn.place)
        assert not drawn.companion or not words.held_out_pair(drawn.companion, drawn.place)


def test_no_training_caption_names_a_held_out_character(world: World) -> None:
    names = {name for character in words.HELD_OUT.values() for name in character.names}
    names -= {"orange cat"}  # held by "cat"
    for seed in range(3000):
        caption = world.caption(world.scene(seed)).lower().rstrip(".").split()
        told = " " + " ".join(caption) + " "
        assert not [name for name in names if f" {name} " in told], told


def test_every_held_out_scene_holds_something_new(world: World) -> None:
    scenes = [world.scene(seed, "held_out") for seed in range(600)]
    novel = [scene for scene in scenes if scene.character in words.HELD_OUT]
    assert {scene.character for scene in novel} == set(words.HELD_OUT)
    for drawn in scenes:
        if drawn.character not in words.HELD_OUT:
            pairs = (drawn.character, drawn.action), (drawn.character, drawn.place)
            assert any(words.held_out_pair(*pair) for pair in pairs)
    assert 0.4 < len(novel) / len(scenes) < 0.6


def test_what_is_fixed_stays_fixed(world: World) -> None:
    drawn = world.scene(8, character="teddy", action="sail", place="beach", weather="rain")
    assert (drawn.character, drawn.action, drawn.place, drawn.weather) == ("teddy", "sail", "beach", "rain")


def test_a_fixed_held_out_pair_is_drawn_without_waiting(world: World) -> None:
    pair = next((c, a) for c in words.CORE for a in words.ACTIONS if words.held_out_pair(c, a))
    drawn = world.scene(1, character=pair[0], action=pair[1])
    assert (drawn.character, drawn.action) == pair


def test_actions_suit_their_places(world: World) -> None:
    for seed in range(2000):
        drawn = world.scene(seed)
        assert world.tables.fits(drawn.action, drawn.place)
    assert not world.tables.fits("fly", "underwater")
    assert world.tables.fits("swim", "underwater")
    assert not world.tables.fits("sail", "kitchen")


def test_every_action_and_place_is_drawn(world: World) -> None:
    scenes = [world.scene(seed) for seed in range(2000)]
    assert {scene.action for scene in scenes} == set(words.ACTIONS)
    assert {scene.place for scene in scenes} == set(words.PLACES)


def test_company_can_be_drawn_more_often(assets: Path) -> None:
    world = World(assets, often={"companion": 100, "sleep": 0})
    drawn = [world.scene(seed) for seed in range(100)]
    free = [d for d in drawn if not world.actions[d.action].ride]
    accompanied = [d for d in free if d.companion]
    assert len(accompanied) > 0.9 * len(free)  # but for pairs of a companion and a place that are held out
    assert not any(d.companion for d in drawn if d not in free)


def test_captions_vary_but_keep_the_facts(world: World) -> None:
    shown = scene(character="fox", action="walk", place="snowy forest")
    captions = {world.caption(shown, random.Random(seed)) for seed in range(300)}
    assert len(captions) > 150
    for caption in captions:
        assert "fox" in caption
        assert any(root in caption for root in ("walk", "stroll", "wander"))
        assert any(word in caption for word in ("snow", "winter"))


def test_a_caption_without_randomness_is_always_the_same(world: World) -> None:
    assert world.caption(scene()) == world.caption(scene())


@pytest.mark.parametrize("told", ["an owl", "a fox", "a unicorn", "an umbrella"])
def test_articles_go_by_the_sound(told: str) -> None:
    assert words.with_article(told.split()[1]) == told


@pytest.mark.parametrize(("words_in", "article"), [("owl", "an owl"), ("fox", "a fox")])
def test_articles_fit(world: World, words_in: str, article: str) -> None:
    captions = [world.caption(scene(character=words_in), random.Random(seed)).lower() for seed in range(200)]
    wrong = "a owl" if article == "an owl" else "an fox"
    assert any(article in caption for caption in captions)
    assert not any(wrong in caption for caption in captions)


def test_the_character_is_nearer_than_the_scenery_behind_it(world: World) -> None:
    shown = scene()
    clip = world.still(shown, 0)
    rows, columns = np.where(clip.mask[0])
    head = clip.depth[0][rows.min() + 4 : rows.min() + 24, columns.min() : columns.max()]
    inside = clip.mask[0][rows.min() + 4 : rows.min() + 24, columns.min() : columns.max()]
    assert head[inside].min() > head[~inside].max()


def test_the_ground_comes_nearer_towards_the_bottom(world: World) -> None:
    clip = world.still(scene(), 0)
    ground = np.array([np.median(row[~mask]) for row, mask in zip(clip.depth[0], clip.mask[0], strict=True)])
    assert ground[:20].max() < 40
    assert ground[126] > ground[100] > ground[85]


def test_whoever_comes_closer_grows_and_comes_nearer(world: World) -> None:
    clip = world.clip(scene(action="approach"), 8)
    assert clip.mask[-1].sum() > 1.3 * clip.mask[0].sum()
    assert np.median(clip.depth[-1][clip.mask[-1]]) > np.median(clip.depth[0][clip.mask[0]])


@pytest.mark.parametrize(("direction", "sign"), [("right", 1), ("left", -1)])
def test_who_walks_to_a_side_moves_there(world: World, direction: str, sign: int) -> None:
    clip = world.clip(scene(action="walk", direction=direction), 16)
    middles = [np.where(mask)[1].mean() for mask in clip.mask]
    assert sign * (middles[-1] - middles[0]) > 20


def test_the_mask_is_where_another_character_changes_the_picture(world: World) -> None:
    """Two characters of one outline differ in colour inside the mask and nowhere else."""
    one, other = (world.still(scene(character=name), 0) for name in ("bear", "panda"))
    changed = np.abs(one.frames[0].astype(int) - other.frames[0]).max(-1) > 8
    both = cv2.dilate((one.mask[0] | other.mask[0]).astype(np.uint8), np.ones((3, 3))) > 0
    assert not (changed & ~both).any()
    assert changed.sum() > 0.5 * one.mask[0].sum()


def test_characters_are_large(world: World) -> None:
    heights = []
    for seed in range(60):
        drawn = world.scene(seed, action="sit")
        rows = np.where(world.still(replace(drawn, companion="", camera="still"), 0).mask[0])[0]
        heights.append(rows.max() - rows.min() + 1)
    assert min(heights) >= 70 and max(heights) <= 110


def test_things_that_cover_each_other_stay_near(world: World) -> None:
    clip = world.clip(scene(action="drive", place="city", companion=""), 4)
    assert clip.mask.any(axis=(1, 2)).all()
    assert clip.depth[clip.mask].min() > 60


def test_bulge_is_highest_inside() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    cv2.circle(alpha, (20, 20), 15, 255, -1)
    relief = bulge(alpha)
    assert relief[20, 20] == pytest.approx(1, abs=0.02)
    assert relief[20, 20] > relief[20, 30] > relief[20, 34] > relief[20, 39]


def test_smaller_levels_of_a_sprite_keep_its_colour() -> None:
    picture = np.full((64, 64, 4), (200, 100, 50, 255), np.uint8)
    sprite = Sprite.from_pictures([picture], limit=48)
    assert sprite.height == 48
    for colour, _ in sprite.phases[0]:
        np.testing.assert_allclose(colour.reshape(-1, 4).mean(0), (200, 100, 50, 255), atol=1)


def test_the_sprite_cache_is_all_a_world_needs(assets: Path, tmp_path: Path) -> None:
    cache = cache_sprites(assets, "core")
    (tmp_path / cache.name).write_bytes(cache.read_bytes())
    cache.unlink()
    np.testing.assert_array_equal(World(tmp_path).still(scene()).frames, World(assets).still(scene()).frames)


def test_missing_pictures_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(StoryError) as caught:
        World(tmp_path).still(scene())
    name = re.search(r"storycli[\w.]*", caught.value.hint)[0]
    assert callable(pkgutil.resolve_name(name))


def test_pictures_are_fetched_whole_and_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def npm(command: list[str], **_: object) -> None:
        asked.append(next(word for word in command if str(word).startswith(PACKAGE)))
        folder = Path(command[command.index("--prefix") + 1])
        (folder / "node_modules" / PACKAGE).mkdir(parents=True)
        if len(asked) == 1:
            raise subprocess.CalledProcessError(1, command, stderr="the network is down")

    monkeypatch.setattr(subprocess, "run", npm)
    with pytest.raises(StoryError, match="network is down"):
        assets_in(tmp_path / "work", None)
    assert not list((tmp_path / "work").iterdir())
    assets = assets_in(tmp_path / "work", None)
    assert (assets / "node_modules" / PACKAGE).is_dir()
    assert assets_in(tmp_path / "work", None) == assets == tmp_path / "work" / "assets"
    assert len(asked) == 2
    assert re.fullmatch(re.escape(PACKAGE) + r"@\d+\.\d+\.\d+", asked[0])


def test_an_unknown_tier_is_refused(assets: Path) -> None:
    with pytest.raises(ValueError, match="unknown tier"):
        World(assets, tier="huge")


def test_the_wide_tier_adds_to_the_core(assets: Path) -> None:
    core, wide = words.load_tables("core"), words.load_tables("wide")
    for kind, least in (("characters", 150), ("places", 25), ("actions", 30)):
        small, large = getattr(core, kind), getattr(wide, kind)
        assert small.items() <= large.items()
        assert len(large) >= least
    assert wide.held_out == core.held_out


def test_the_wide_tier_keeps_held_out_characters_out_too(assets: Path) -> None:
    world = World(assets, "wide")
    held_out = {character.code for character in words.HELD_OUT.values()}
    names = {name for character in words.HELD_OUT.values() for name in character.names}
    for name in world.train_characters:
        assert world.characters[name].code not in held_out
        assert not names & set(world.characters[name].names)
    scenes = [world.scene(seed) for seed in range(4000)]
    assert {scene.character for scene in scenes} == set(world.train_characters)
    assert {scene.action for scene in scenes} == set(world.actions)
    assert {scene.place for scene in scenes} == set(world.places)
    assert not [scene for scene in scenes if words.held_out_pair(scene.character, scene.action)]


@pytest.mark.parametrize("tier", ["core", "wide"])
def test_every_action_can_be_drawn_and_told(assets: Path, tier: str) -> None:
    world = World(assets, tier)
    for seed, action in enumerate(world.actions):
        clip = world.still(world.scene(seed, action=action))
        assert clip.mask.sum() > 1000
        forms = [form for verb in world.actions[action].verbs for form in verb.split("/")]
        assert any(form in clip.caption for form in forms)
