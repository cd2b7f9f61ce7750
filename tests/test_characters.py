"""Learning a character with the built-in model, for a few steps: what is written, and when it still holds."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import read_metadata, write_tensors
from storycli import characters
from storycli.characters import CharacterConfig, load_character, near, ready, train, trainable
from storycli.config import EXAMPLES
from storycli.errors import StoryError
from storycli.story import Character

QUICK = CharacterConfig(steps=2, batch=2, class_batch=1, views=2, rank=2, rows=4)


def teddy(folder, count=2, class_word="teddy bear"):
    folder.mkdir()
    for path in sorted((EXAMPLES / "teddy").glob("*.png"))[:count]:
        shutil.copy(path, folder)
    return Character(name="teddy", dir=folder, class_word=class_word)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    hero = teddy(tmp_path_factory.mktemp("hero") / "teddy")
    told = []
    path = train(hero, config=QUICK, progress=lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]
    return hero, path


def test_a_character_is_its_word_and_its_branches_with_where_they_come_from(learnt):
    hero, path = learnt
    assert path == hero.dir / "character.safetensors"
    tensors, made = load_file(path), read_metadata(path)
    assert tensors["word"].shape == (4, 384)
    sides = {key.rpartition(".")[2] for key in tensors if key != "word"}
    assert sides == {"up", "down"}
    assert any(tensor.abs().max() > 0 for key, tensor in tensors.items() if key.endswith(".up"))
    assert (made["method"], made["class_word"], made["token"]) == ("timeinv", "teddy bear", "<new1>")


def test_the_same_pictures_and_seed_give_the_same_character(learnt, tmp_path):
    _, path = learnt
    again = train(teddy(tmp_path / "teddy"), config=QUICK)
    first, second = load_file(path), load_file(again)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert read_metadata(again) == read_metadata(path)


def test_a_character_is_ready_until_its_pictures_or_its_class_word_change(learnt, tmp_path):
    hero, path = learnt
    assert ready(hero, "storybook") == path
    assert ready(hero.model_copy(update={"class_word": None}), "storybook") == path
    assert ready(hero.model_copy(update={"class_word": "dog"}), "storybook") is None
    other = teddy(tmp_path / "teddy", count=3)
    shutil.copy(path, other.dir)
    assert ready(other, "storybook") is None


def test_the_hero_of_the_example_ships_trained_for_the_built_in_model():
    hero = Character(name="teddy", dir=EXAMPLES / "teddy", class_word="teddy bear")
    assert ready(hero, "storybook") == hero.dir / "character.safetensors"


def test_a_character_made_for_other_weights_is_refused(learnt, tmp_path):
    _, path = learnt
    stale = tmp_path / "character.safetensors"
    write_tensors(stale, load_file(path), read_metadata(path) | {"weights": "0" * 64, "model": "storybook"})
    with pytest.raises(StoryError, match="was trained for"):
        load_character(stale, "storybook")
    stale.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoryError, match="cannot be read"):
        load_character(stale, "storybook")


def test_every_method_trains_what_its_paper_says(monkeypatch):
    from tiny import video_model

    unet = video_model().unet
    names = {method: set(trainable(unet, method)) for method in ("textual-inversion", "dreambooth", "custom-diffusion")}
    assert names["textual-inversion"] == set()
    assert names["dreambooth"] == {name for name, _ in unet.named_parameters()}
    assert names["custom-diffusion"] and all(
        ".attn2.to_k." in name or ".attn2.to_v." in name for name in names["custom-diffusion"]
    )


def test_custom_diffusion_writes_one_embedding_and_its_keys_and_values(tmp_path):
    config = CharacterConfig(method="custom-diffusion", steps=2, batch=2, class_batch=1, views=2)
    path = train(teddy(tmp_path / "teddy"), config=config)
    tensors = load_file(path)
    assert tensors.pop("word").shape == (1, 384)
    assert tensors and all(".attn2.to_" in name for name in tensors)
    assert set(load_character(path, "storybook").tensors) == set(tensors)


def test_an_unknown_method_and_a_folder_without_pictures_are_refused(tmp_path):
    with pytest.raises(StoryError, match="no method 'magic'"):
        train(teddy(tmp_path / "teddy"), config=CharacterConfig(method="magic"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoryError, match="no pictures"):
        train(Character(name="nobody", dir=tmp_path / "empty"), config=QUICK)


def test_prompts_say_how_large_the_character_shows():
    rng = np.random.default_rng(0)
    said = {zoom: characters._prompt(rng, zoom, "cat", "photo") for zoom in (0.7, 1.0, 1.3)}
    assert "small" in said[0.7] or "far away" in said[0.7]
    assert "close up" in said[1.3] or "large" in said[1.3]
    assert all("<new1> cat" in prompt for prompt in said.values())


def test_near_is_what_stands_before_its_row():
    depth = np.tile(np.linspace(0, 1, 8, dtype=np.float32)[:, None], (1, 8))
    depth[2:5, 3:5] += 0.2
    mask = near(depth)
    assert mask[2:5, 3:5].all() and mask.sum() == 6
    assert torch.from_numpy(mask).dtype == torch.bool
