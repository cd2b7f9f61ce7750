"""CLIP and SigLIP behind a library of clips: small random networks in the layout in which theirs are published."""

import json

import library
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from models.text import clip_tokenizer
from models.weights import WeightsError, load_image_text
from storycli.errors import StoryError
from storycli.library import encoder
from storycli.library.encoder import Encoder
from storycli.retrieve import Library

TOWER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
PICTURES = TOWER | dict(image_size=32, patch_size=16)
PREPARED = {
    "clip": dict(do_center_crop=True, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=3),
    "siglip": dict(size={"height": 32, "width": 32}, resample=2),
}
LOOK = dict(image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.25, 0.2])


def published(folder, kind):
    """A folder as the hub has it, with untrained weights."""
    torch.manual_seed(0)
    folder.mkdir()
    if kind == "clip":
        clip_tokenizer().save_pretrained(folder)
        config = CLIPConfig(text_config=TOWER, vision_config=PICTURES, projection_dim=16)
        network = CLIPModel(config)
    else:
        words = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "a", "dog", "cat", "runs"])}
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokens = dict(pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens).save_pretrained(folder)
        text = TOWER | dict(
            vocab_size=len(words), pad_token_id=0, bos_token_id=None, eos_token_id=1, projection_size=32
        )
        network = SiglipModel(SiglipConfig(text_config=text, vision_config=PICTURES))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED[kind] | LOOK))
    return folder, network.eval()


@pytest.fixture(params=["clip", "siglip"])
def folder(request, tmp_path):
    return published(tmp_path / request.param, request.param)[0]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_clip_is_the_mean_of_what_the_network_sees_in_its_frames(tmp_path, kind):
    folder, network = published(tmp_path / kind, kind)
    frames = library.moving(1, frames=4, size=(40, 32))
    pictures = []
    for frame in frames:
        if kind == "clip":  # the shorter side is 32 already: a square from the middle
            frame = frame[:, 4:36]
        else:
            frame = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BILINEAR))
        pictures.append((frame / 255 - LOOK["image_mean"]) / LOOK["image_std"])
    pixels = torch.tensor(np.stack(pictures), dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=pixels).pooler_output
    expected = torch.nn.functional.normalize(seen, dim=-1).mean(0)
    expected = expected / expected.norm()
    np.testing.assert_allclose(Encoder(folder).embed_clips([frames])[0], expected.numpy(), atol=0.01)


def test_sentences_of_clip_do_not_depend_on_what_they_are_batched_with(tmp_path):
    network = Encoder(published(tmp_path / "clip", "clip")[0])
    alone, together = (
        network.embed_text(["a dog"]),
        network.embed_text(["a dog", "a cat that runs on the beach at night"]),
    )
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_sentences_of_siglip_are_padded_and_without_capitals(tmp_path):
    folder, network = published(tmp_path / "siglip", "siglip")
    ids = torch.zeros(1, 64, dtype=torch.long)
    ids[0, :3] = torch.tensor([3, 4, 6])
    with torch.no_grad():
        expected = network.get_text_features(input_ids=ids).pooler_output[0].numpy()
    np.testing.assert_allclose(
        Encoder(folder).embed_text(["A Dog runs"])[0], expected / np.linalg.norm(expected), atol=1e-5
    )


def test_a_short_clip_stays_on_its_last_frame(folder):
    frames = library.moving(1, frames=4)[:2]
    network = Encoder(folder)
    np.testing.assert_allclose(network.embed_clips([frames]), network.embed_clips([frames[[0, 1, 1, 1]]]), atol=1e-5)


def test_an_index_remembers_the_network_that_made_it(folder, tmp_path):
    library.clip(tmp_path / "v" / "dog.mp4"), library.clip(tmp_path / "v" / "waves.mp4")
    made = Library(tmp_path / "index", folder)
    assert made.add([tmp_path / "v"]).added == 2
    opened = Library(tmp_path / "index")  # without being told which
    assert opened.encoder.path == folder
    assert opened.search("dog")[0].clip.path.name == "dog.mp4"
    assert opened.status().encoder == folder.name


def test_an_index_says_which_weights_it_misses(folder, tmp_path):
    library.clip(tmp_path / "v" / "dog.mp4")
    Library(tmp_path / "index", folder).add([tmp_path / "v"])
    folder.rename(tmp_path / "away")
    with pytest.raises(StoryError, match=folder.name) as error:
        Library(tmp_path / "index")
    assert "bring them back" in error.value.hint


def test_weights_that_are_cut_off_are_one_error_and_not_one_for_each_video(tmp_path):
    for number in range(3):
        library.clip(tmp_path / "v" / f"{number}.mp4")
    file, folder = library.encoder(tmp_path / "file.safetensors"), published(tmp_path / "clip", "clip")[0]
    for path in (file, folder / "model.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    for path in (file, folder):
        with pytest.raises(StoryError, match="cannot be read"):
            Library(tmp_path / "index", path).add([tmp_path / "v"])
    with pytest.raises(StoryError, match="cannot be read"):
        Encoder(file).embed_text(["a dog"])


def test_published_files_with_position_ids_are_read(tmp_path):
    folder, _ = published(tmp_path / "clip", "clip")
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_image_text(folder).config.image_size == 32


def test_weights_that_do_not_fit_are_refused_by_name(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("logit_scale")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="missing: logit_scale"):
        load_image_text(folder)


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        ("config.json", {"model_type": "bert"}, "kind bert"),
        ("preprocessor_config.json", {"resample": 0}, "prepared"),
        ("preprocessor_config.json", {"size": {"height": 32, "width": 16}, "do_center_crop": False}, "prepared"),
    ],
)
def test_a_folder_of_another_network_is_refused(tmp_path, name, change, wrong):
    folder, _ = published(tmp_path / "clip", "clip")
    told = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(told | change))
    with pytest.raises(WeightsError, match=wrong):
        load_image_text(folder)


def test_large_weights_are_told_apart_without_reading_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "PIECES", 4)
    monkeypatch.setattr(encoder, "PIECE", 8)
    content = bytes(range(200))
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "same").write_bytes(content)
    (tmp_path / "longer").write_bytes(content[:100] + b"x" + content[100:])
    (tmp_path / "end").write_bytes(content[:-1] + b"x")
    digests = {name: encoder.weights_digest(tmp_path / name) for name in ("a", "same", "longer", "end")}
    assert digests["a"] == digests["same"]
    assert len(set(digests.values())) == 3
