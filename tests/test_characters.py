"""Learning a character with the built-in model, for a few steps: what is written, and when it still holds."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file

from models import precision
from models.checkpoint import read_metadata, write_tensors
from models.personal import TimeInv, parameter_of, remove_branches
from storycli.catalogue import named
from storycli.characters import learn, personal, proof, views
from storycli.characters.learn import train
from storycli.characters.methods import METHODS, CharacterConfig, Pupil, personal_loss, trainable
from storycli.characters.personal import load_character, networks_digest, ready
from storycli.characters.views import ACTIONS, PLACES, picture_views, told
from storycli.config import EXAMPLES
from storycli.errors import StoryError
from storycli.media import filmstrip
from storycli.media.pictures import pictures
from storycli.render import changed_by_characters, load_model
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


def test_a_training_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_character(tmp_path):
    config = dataclasses.replace(QUICK, steps=4)
    whole = train(teddy(tmp_path / "whole"), config=config)
    hero = teddy(tmp_path / "teddy")
    program = (
        "import os, sys; from pathlib import Path; from storycli.characters.learn import train;"
        "from storycli.characters.methods import CharacterConfig; from storycli.story import Character;"
        f"hero = Character(name='teddy', dir=Path({str(hero.dir)!r}), class_word='teddy bear');"
        "train(hero, config=CharacterConfig(**eval(sys.argv[1])), save_every=0,"
        "      progress=lambda step, of: step == 2 and os.kill(os.getpid(), 9))"
    )
    settings = {name: getattr(config, name) for name in ("steps", "batch", "class_batch", "views", "rank", "rows")}
    killed = subprocess.run([sys.executable, "-c", program, repr(settings)], cwd=ROOT, check=False)
    assert killed.returncode == -9 and not (hero.dir / "character.safetensors").exists()
    told = []
    resumed = train(hero, config=config, progress=lambda step, of: told.append(step))
    assert told == [3, 4]
    first, second = load_file(whole), load_file(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not list(hero.dir.glob(".*"))


@pytest.mark.parametrize("damage", ["cut", "other training"])
def test_a_checkpoint_that_is_no_use_is_left_aside(tmp_path, damage):
    hero, told = teddy(tmp_path / "teddy"), []

    def stop(step, of):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(hero, config=dataclasses.replace(QUICK, steps=3), save_every=0, progress=stop)
    checkpoint = hero.dir / ".character.ckpt"
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    seed = 1 if damage == "other training" else 0
    train(hero, config=dataclasses.replace(QUICK, steps=3, seed=seed), progress=lambda step, of: told.append(step))
    assert told == [1, 2, 3]


@pytest.mark.parametrize("content", [b"garbage", b".", b""])
def test_a_checkpoint_that_is_none_is_left_aside_with_a_warning(tmp_path, caplog, content):
    pupil = Pupil(word=TimeInv(torch.zeros(3), 1), learnt={}, before={}, branches={}, optimizer=None)
    (tmp_path / "checkpoint").write_bytes(content)
    pupil.resume(tmp_path / "checkpoint", {})
    assert "checkpoint cannot be read" in caplog.text and "the training starts anew" in caplog.text
    assert pupil.step == 0


def test_keeping_the_state_takes_no_more_than_a_tenth_of_the_time(tmp_path, monkeypatch):
    now, kept = [0], []

    def save(pupil, path, header):
        kept.append(pupil.step)
        now[0] += 30  # of a model of gigabytes

    def step(number, of):
        now[0] += 21

    monkeypatch.setattr(learn, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(Pupil, "save", save)
    train(teddy(tmp_path / "teddy"), config=dataclasses.replace(QUICK, steps=34, views=1), progress=step)
    assert kept == [2, 17, 32]


@pytest.mark.parametrize("seed", [20_000_000_000_000, 2**70])
def test_any_seed_is_one(tmp_path, seed):
    config = dataclasses.replace(QUICK, steps=1, views=1, seed=seed)
    assert torch.isfinite(load_file(train(teddy(tmp_path / "teddy"), config=config))["word"]).all()


def test_training_stops_early_when_it_no_longer_learns():
    pupil = Pupil(word=TimeInv(torch.zeros(3), 1), learnt={}, before={}, branches={}, optimizer=None)
    patient = CharacterConfig(patience=2)
    for loss, tired in ((0.5, False), (0.4, False), (0.41, False), (0.39, False), (0.3899, False), (0.392, True)):
        pupil.losses.append(loss)
        assert pupil.tired(patient) is tired
    assert not pupil.tired(CharacterConfig(patience=0))


def test_a_training_can_be_watched(tmp_path, monkeypatch):
    monkeypatch.setattr("storycli.characters.learn.LOOK", 1)
    monkeypatch.setattr(proof, "FRAMES", 2)
    hero = teddy(tmp_path / "teddy")
    quick = dataclasses.replace(named("storybook"), steps=2)
    watched = train(hero, config=QUICK, watch=proof.previews(hero, quick, 2, "cpu"))
    with Image.open(hero.dir / "preview-steps.png") as shown:
        assert shown.width == 2 * 128 + 3 * filmstrip.GAP  # one row of two frames: after step 2, not after step 1
        assert shown.height < 2 * 128
    plain = train(teddy(tmp_path / "again"), config=QUICK)
    assert all(torch.equal(load_file(watched)[key], tensor) for key, tensor in load_file(plain).items())
    assert len(pictures(hero.dir)) == 2  # the previews are not pictures to learn from


@pytest.mark.parametrize("count", [1, 20])
def test_one_picture_is_enough_and_twenty_are_not_too_many(tmp_path, count):
    hero = teddy(tmp_path / "teddy", count=1)
    (picture,) = hero.dir.iterdir()
    for number in range(count - 1):
        shutil.copy(picture, hero.dir / f"copy-{number}.png")
    path = train(hero, config=dataclasses.replace(QUICK, steps=1, views=1))
    assert torch.isfinite(load_file(path)["word"]).all()


def test_pictures_of_any_kind_are_learnt_from(tmp_path):
    """Cut out, grey, very wide, and noise as no world shows."""
    folder = tmp_path / "thing"
    folder.mkdir()
    cut_out = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    cut_out.paste((200, 30, 40, 255), (100, 40, 180, 180))
    cut_out.save(folder / "cut-out.png")
    Image.new("L", (90, 90), 128).save(folder / "grey.png")
    Image.new("RGB", (900, 30), "blue").save(folder / "wide.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.webp")
    path = train(Character(name="thing", dir=folder), config=QUICK)
    assert read_metadata(path)["class_word"] == "thing"
    assert all(torch.isfinite(tensor).all() for tensor in load_file(path).values())


def test_a_broken_picture_is_named_and_nothing_is_left_behind(tmp_path):
    hero = teddy(tmp_path / "teddy")
    (hero.dir / "broken.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(StoryError, match=r"broken\.png cannot be read as a picture"):
        train(hero, config=QUICK)
    assert not (hero.dir / "character.safetensors").exists()


def test_a_character_is_ready_until_its_pictures_or_its_class_word_change(learnt, tmp_path):
    hero, path = learnt
    assert ready(hero, "storybook") == path
    assert ready(hero.model_copy(update={"class_word": None}), "storybook") == path
    assert ready(hero.model_copy(update={"class_word": "dog"}), "storybook") is None
    other = teddy(tmp_path / "teddy", count=3)
    shutil.copy(path, other.dir)
    assert ready(other, "storybook") is None


def test_a_character_of_one_training_is_not_that_of_another(learnt, monkeypatch):
    hero, path = learnt
    assert ready(hero, "storybook", QUICK) == path
    assert ready(hero, "storybook", dataclasses.replace(QUICK, steps=QUICK.steps + 1)) is None
    quicker = METHODS["timeinv"].rates._replace(text=1e-2)
    monkeypatch.setitem(METHODS, "timeinv", dataclasses.replace(METHODS["timeinv"], rates=quicker))
    assert ready(hero, "storybook", QUICK) is None


def test_a_damaged_character_is_told_with_what_to_do(tmp_path):
    hero = teddy(tmp_path / "teddy")
    (hero.dir / "character.safetensors").write_bytes(b"damaged")
    with pytest.raises(StoryError, match=r"character\.safetensors cannot be read") as told:
        ready(hero, "storybook")
    assert "storycli train-character" in told.value.hint


def test_a_character_outlives_what_only_shows_latents(monkeypatch):
    read = []
    monkeypatch.setattr(personal, "_sha256", lambda path, *rest: read.append(path.name) or b"")
    networks_digest("storybook")
    assert read == ["storybook-unet.safetensors", "storybook-structure.safetensors"]


def test_weights_that_were_fetched_are_read_once_to_tell_what_a_character_was_made_for(monkeypatch):
    model = named("lvdm")
    model.folder.mkdir(parents=True)
    for file in model.files:
        model.path(file).write_bytes(file.name.encode())
    shas = (hashlib.sha256(name).digest() for name in (b"model_rm_wtm.ckpt", b"adapter.pth"))
    expected = hashlib.sha256(b"".join(shas)).hexdigest()
    assert networks_digest("lvdm") == expected
    personal._sha256.cache_clear()  # as in another process
    monkeypatch.setattr("storycli.digest.file", lambda path: 1 / 0)
    assert networks_digest("lvdm") == expected


def test_the_hero_of_the_example_ships_trained_for_the_built_in_model():
    hero = Character(name="teddy", dir=EXAMPLES / "teddy", class_word="teddy bear")
    assert ready(hero, "storybook") == hero.dir / "character.safetensors"


def test_weights_that_a_character_changes_are_not_rounded_before(learnt):
    _, path = learnt
    unet, tensors = load_model("storybook").unet, load_character(path, "storybook").tensors
    layers = changed_by_characters("storybook", unet)
    assert set(map(parameter_of, tensors)) == {f"{layer}.weight" for layer in layers}


def test_clips_of_a_class_are_those_of_the_chosen_index_and_for_the_built_in_model_its_own(monkeypatch):
    opened = []

    class Nothing:
        def __init__(self, folder):
            opened.append(folder)

        def search(self, query, k):
            return []

    monkeypatch.setattr("storycli.retrieve.Library", Nothing)
    for model, index in (("lvdm", Path("mine")), ("lvdm", None), ("storybook", Path("mine"))):
        assert views.class_views(None, model, "bear", 64, 1, index) is None
    assert opened == [Path("mine"), None]


def test_a_character_made_for_other_weights_is_refused(learnt, tmp_path):
    _, path = learnt
    stale = tmp_path / "character.safetensors"
    write_tensors(stale, load_file(path), read_metadata(path) | {"weights": "0" * 64, "model": "storybook"})
    with pytest.raises(StoryError, match="was trained for"):
        load_character(stale, "storybook")
    stale.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoryError, match="cannot be read"):
        load_character(stale, "storybook")


def test_every_method_trains_what_its_paper_says():
    from tiny import video_model

    unet = video_model().unet
    methods = ("textual-inversion", "dreambooth", "custom-diffusion")
    names = {method: set(trainable(unet, METHODS[method].weights)) for method in methods}
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
    said = {zoom: told(rng, zoom, "cat", "photo") for zoom in (0.7, 1.0, 1.3)}
    assert "small" in said[0.7] or "far away" in said[0.7]
    assert "close up" in said[1.3] or "large" in said[1.3]
    assert all("<new1> cat" in prompt for prompt in said.values())


def test_most_prompts_tell_of_something_that_it_might_do(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "quick_in_bf16", lambda device: False)  # contexts are to be compared closely
    hero, model = teddy(tmp_path / "teddy", count=1), load_model("storybook")
    seen = picture_views(model, "storybook", pictures(hero.dir), "bear", 128, 40, 0)
    somewhere = sum(any(words in prompt for words in ACTIONS + PLACES) for prompt in seen.prompts)
    assert 10 < somewhere < 35 and all("<new1> bear" in prompt for prompt in seen.prompts)
    ids, words = model.text.tokenize([seen.prompts[0].replace("<new1> bear", "bear")])
    alone = model.text.encode(ids, words)[0, words[0]]
    torch.testing.assert_close(seen.context[0, seen.words[0]], alone, atol=1e-4, rtol=1e-4)


def test_where_nothing_stands_out_all_of_a_picture_is_the_character(tmp_path, monkeypatch):
    hero, model = teddy(tmp_path / "teddy", count=1), load_model("storybook")
    seen = picture_views(model, "storybook", pictures(hero.dir), "bear", 128, 4, 0)
    assert (seen.mask.amin((1, 2, 3, 4)) == 0).all() and (seen.mask.amax((1, 2, 3, 4)) > 0.5).all()
    monkeypatch.setattr(views, "figure", lambda depth: np.zeros(depth.shape, bool))
    seen = picture_views(model, "storybook", pictures(hero.dir), "bear", 128, 4, 0)
    assert (seen.mask[..., 6:10, 6:10] == 1).all()


def test_what_is_cut_out_turns_and_moves_with_its_picture(tmp_path, monkeypatch):
    picture = np.zeros((128, 128, 4), np.uint8)
    picture[50:110, 30:60] = picture[50:70, 60:90] = (200, 0, 0, 255)  # an L, and around it nothing, which is white
    Image.fromarray(picture).save(tmp_path / "l.png")
    monkeypatch.setattr(views, "encode_views", lambda model, estimator, frames, prompts, masks: (frames, masks))
    frames, masks = picture_views(load_model("storybook"), "storybook", pictures(tmp_path), "letter", 128, 40, 0)
    red = frames[..., 1] < 128
    assert ((masks > 0.5) == red).mean() > 0.995
    assert len({mask.tobytes() for mask in masks}) == 40
    share = red.mean((1, 2, 3))
    assert share.max() > 3 * share.min() > 0


def test_around_the_character_the_network_is_held_to_what_it_drew_before(tmp_path):
    """So pictures whose backgrounds differ teach the same, as far as noise does not show them."""
    hero, model = teddy(tmp_path / "teddy", count=1), load_model("storybook")
    seen = picture_views(model, "storybook", pictures(hero.dir), "bear", 128, 4, 0)
    pupil = Pupil.begin(model, "bear", QUICK)
    try:
        nothing = dataclasses.replace(seen, mask=torch.zeros_like(seen.mask))
        with torch.no_grad():
            how = (QUICK, torch.Generator().manual_seed(0))
            held, taught = (personal_loss(model, pupil, views, None, *how).item() for views in (nothing, seen))
        assert 0 < held < 0.1 * taught
        assert all(torch.equal(pupil.before[name], value) for name, value in pupil.learnt.items())
    finally:
        remove_branches(model.unet, pupil.branches)
