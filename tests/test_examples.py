"""The clips that ship with storycli lend motion to anybody: every build, in every place, and nobody held out."""

from collections import Counter

from storycli.examples.__main__ import AGAIN, BUILDS, caption, clip_scenes
from storycli.world.generator import World
from storycli.world.words import held_out_pair


def test_everything_is_done_by_every_build_wherever_it_makes_sense(assets):
    world = World(assets)
    drawn = list(clip_scenes(world))
    counted = Counter((scene.action, scene.place, build) for scene, build in drawn)
    sensible = [
        (action, place) for action in world.actions for place in world.places if world.tables.fits(action, place)
    ]
    assert counted == {(*both, build): AGAIN.get(both[0], 1) for both in sensible for build in BUILDS}
    assert len({(scene.action, scene.place, scene.character) for scene, _ in drawn}) == len(drawn)  # files of their own


def test_who_plays_is_of_the_build_and_was_trained_on_with_action_and_place(assets):
    world = World(assets)
    for scene, build in clip_scenes(world):
        assert scene.character in BUILDS[build] and scene.character in world.train_characters
        assert not held_out_pair(scene.character, scene.action) and not held_out_pair(scene.character, scene.place)
        assert not scene.companion and not scene.weather
        assert scene.camera == "still" or world.actions[scene.action].moving
    assert {who for members in BUILDS.values() for who in members} == set(world.train_characters)


def test_captions_say_what_kind_of_somebody_it_is(assets):
    world = World(assets)
    scene = world.scene(1, character="owl", action="dance", place="park", companion="", weather="")
    assert caption(world, scene, "animal") == "An animal, an owl, dancing or spinning and dancing in the park."
    assert caption(world, scene, "") == "An owl dancing or spinning and dancing in the park."
