"""Weights files: published layouts arrive whole, our own come back equal, nothing in a file is run."""

import dataclasses
import json
import os
import pathlib
import pickle
import sys
import types
import zlib

import golden_weights as golden
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models import checkpoint, weights
from models.weights import WeightsError, load, read_metadata, read_state_dict, save

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(2)}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Kinds of files


@pytest.mark.parametrize("name", ["w.ckpt", "w.pt", "w.pth", "w.pth.tar", "w.safetensors"])
def test_every_kind_of_file_gives_the_same_tensors(tmp_path, name):
    path = tmp_path / name
    save_file(TENSORS, path) if name.endswith("safetensors") else torch.save(TENSORS, path)
    assert same(read_state_dict(path), TENSORS)


def test_files_of_the_time_before_zip_are_read(tmp_path):
    torch.save(TENSORS, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert same(read_state_dict(tmp_path / "w.pt"), TENSORS)


@pytest.mark.parametrize(
    "stored",
    [
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS, "optimizer": {"lr": 0.1}},
        {"state_dict": {f"module.{key}": tensor for key, tensor in TENSORS.items()}},
    ],
    ids=["state_dict", "model beside optimizer", "module."],
)
def test_wrappers_and_prefixes_are_taken_off(tmp_path, stored):
    torch.save(stored, tmp_path / "w.ckpt")
    assert same(read_state_dict(tmp_path / "w.ckpt"), TENSORS)


def test_only_one_module_prefix_is_taken_off(tmp_path):
    torch.save({"module.module.a": torch.ones(1), "module.b": torch.ones(1)}, tmp_path / "w.pt")
    assert set(read_state_dict(tmp_path / "w.pt")) == {"module.a", "b"}


# Bad files


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_in_it_is_refused_and_the_code_is_not_run(tmp_path, zipped):
    path, target = tmp_path / "w.ckpt", tmp_path / "ran"
    torch.save({"a": torch.ones(1), "bomb": Bomb(target)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"is refused: .* asks for \w+\.mkdir") as caught:
        read_state_dict(path)
    assert "run code" in caught.value.hint
    assert not target.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    path, target = tmp_path / "w.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(WeightsError):
        read_state_dict(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_an_error_that_says_so(tmp_path, name, share):
    path = tmp_path / name
    tensors = {"a": torch.randn(500), "b": torch.randn(500)}
    save_file(tensors, path) if name.endswith("safetensors") else torch.save(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match=r"cannot be read|is cut short") as caught:
        read_state_dict(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>404</html>", b"version https://git-lfs\n", bytes(4096)])
@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
def test_what_is_no_weights_file_is_an_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    "stored", [[torch.ones(1)], {"lr": 0.1}, {}, torch.ones(1), {"a": torch.ones(1), "b": "text"}, {1: torch.ones(1)}]
)
def test_what_is_no_state_dict_is_an_error(tmp_path, stored):
    torch.save(stored, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="does not hold a state dict"):
        read_state_dict(tmp_path / "w.pt")


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(WeightsError, match="no weights at"):
            read_state_dict(path)


# Fit


def test_tensors_that_do_not_fit_are_listed_each_way():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {
        "0.weight": torch.ones(3, 5),
        "0.bias": torch.ones(3),
        "1.weight": torch.ones(1, 3),
        "2.bias": torch.ones(1),
    }
    with pytest.raises(WeightsError) as caught:
        checkpoint.fill(network, state, "w.pt")
    assert "missing: 1.bias" in caught.value.message
    assert "not expected: 2.bias" in caught.value.message
    assert "0.weight (3, 5), not (3, 2)" in caught.value.message


def test_a_long_list_of_differences_is_cut():
    network = nn.Sequential(*(nn.Linear(1, 1) for _ in range(10)))
    with pytest.raises(WeightsError, match=r"missing: 0.bias, 0.weight, 1.bias and 17 more"):
        checkpoint.fill(network, {}, "w.pt")


def test_filling_takes_the_tensors_themselves_and_casts_halves():
    network = checkpoint.build(nn.Linear, 2, 3)
    weight, bias = torch.ones(3, 2), torch.ones(3, dtype=torch.float16)
    checkpoint.fill(network, {"weight": weight, "bias": bias}, "w.pt")
    assert network.weight.data_ptr() == weight.data_ptr()
    assert network.bias.dtype == torch.float32
    assert not network.training


# Our own files


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TinyConfig:
    sizes: tuple[int, ...]
    bias: bool = True


class Tiny(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            nn.Linear(a, b, config.bias) for a, b in zip(config.sizes, config.sizes[1:], strict=False)
        )


class Other(Tiny):
    pass


def test_a_network_comes_back_with_its_config_and_metadata(tmp_path):
    network = Tiny(TinyConfig(sizes=(2, 3, 4)))
    save(network, tmp_path / "tiny.safetensors", network.config, trained_on="the storybook world")
    again = load(tmp_path / "tiny.safetensors", Tiny, TinyConfig)
    assert again.config == network.config
    assert same(again.state_dict(), network.state_dict())
    assert read_metadata(tmp_path / "tiny.safetensors")["trained_on"] == "the storybook world"


def test_weights_can_be_stored_in_half_the_space(tmp_path):
    network = Tiny(TinyConfig(sizes=(64, 64)))
    save(network, tmp_path / "full.safetensors", network.config)
    save(network, tmp_path / "half.safetensors", network.config, dtype=torch.float16)
    again = load(tmp_path / "half.safetensors", Tiny, TinyConfig)
    assert again.layers[0].weight.dtype == torch.float32
    torch.testing.assert_close(again.layers[0].weight, network.layers[0].weight, rtol=1e-3, atol=1e-4)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]


def test_whole_numbers_stay_whole_when_weights_are_halved(tmp_path):
    network = nn.BatchNorm1d(2)
    network.num_batches_tracked.fill_(100_001)
    save(network, tmp_path / "norm.safetensors", TinyConfig(sizes=()), dtype=torch.float16)
    stored = read_state_dict(tmp_path / "norm.safetensors")
    assert stored["num_batches_tracked"].item() == 100_001
    assert stored["weight"].dtype == torch.float16


def test_a_file_of_another_network_or_version_is_an_error(tmp_path):
    network = Tiny(TinyConfig(sizes=(2, 3)))
    save(network, tmp_path / "tiny.safetensors", network.config)
    with pytest.raises(WeightsError, match="holds Tiny, not Other"):
        load(tmp_path / "tiny.safetensors", Other, TinyConfig)
    config = dataclasses.make_dataclass("Changed", [("widths", tuple)], frozen=True)
    with pytest.raises(WeightsError, match="another version"):
        load(tmp_path / "tiny.safetensors", Tiny, config)
    save_file(TENSORS, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="no network of this project"):
        load(tmp_path / "plain.safetensors", Tiny, TinyConfig)


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    network = Tiny(TinyConfig(sizes=(2, 3)))
    save(network, path, network.config)
    before = path.read_bytes()

    def half(tensors, name, metadata):
        pathlib.Path(name).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        save(network, path, network.config)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Published files. A tensor of one repeated number takes four bytes in a file, whatever its shape, so these
# have the published names and shapes at no cost; the number tells which tensor arrived where.


def number(key):
    return float(zlib.crc32(key.encode()) % 9973)


def repeated(shapes):
    return {key: torch.full((1,), number(key)).expand(shape) for key, shape in shapes.items()}


def arrived(network, shapes, names=lambda key: key):
    state = network.state_dict()
    assert len(state) == len(shapes)
    return all((state[names(key)] == number(key)).all() for key in shapes)


LVDM = golden.keys("lvdm")


def published(*parts):
    shapes = {}
    for part in parts:
        shapes |= {LVDM[part]["prefix"] + key: shape for key, shape in LVDM[part]["keys"].items()}
    return shapes


def test_the_trainers_notes_in_a_checkpoint_are_passed_over(tmp_path, monkeypatch):
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    with monkeypatch.context() as installed:
        for package in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            installed.setitem(sys.modules, package, types.ModuleType(package))
        sys.modules[name].ModelCheckpoint = callback
        checkpoint = {"state_dict": TENSORS, "callbacks": {callback: {"best": np.float64(0.1)}}}
        torch.save(checkpoint, tmp_path / "model.ckpt")
    assert same(read_state_dict(tmp_path / "model.ckpt"), TENSORS)


@pytest.fixture
def base(tmp_path):
    shapes = published("unet", "first_stage_model", "cond_stage_model", "schedule_buffers")
    state = repeated(shapes)
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


@pytest.fixture
def adapter(tmp_path):
    torch.save(repeated(LVDM["adapter"]["keys"]), tmp_path / "adapter.pth")
    return tmp_path / "adapter.pth"


def test_the_published_base_and_adapter_arrive_whole(base, adapter):
    lvdm = weights.load_lvdm(base=base, adapter=adapter)
    unet = lvdm.unet.state_dict()
    for key in LVDM["unet"]["keys"]:
        assert unet[key].flatten()[0] == number("model.diffusion_model." + key), key
    assert arrived(lvdm.structure, LVDM["adapter"]["keys"])
    assert len(lvdm.autoencoder.state_dict()) == len(LVDM["first_stage_model"]["keys"])
    decoder = lvdm.autoencoder.model.decoder
    shortcut = decoder.up_blocks[2].resnets[0].conv_shortcut.weight
    assert (shortcut == number("first_stage_model.decoder.up.1.block.0.nin_shortcut.weight")).all()
    query = lvdm.text.model.encoder.layers[3].self_attn.q_proj.weight
    assert (query == number("cond_stage_model.transformer.text_model.encoder.layers.3.self_attn.q_proj.weight")).all()
    assert torch.equal(lvdm.text.model.embeddings.position_ids, torch.arange(77)[None])
    parts = (lvdm.unet, lvdm.structure, lvdm.autoencoder, lvdm.text)
    assert not any(part.training for part in parts)
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    assert not any(p.is_meta for part in (lvdm.unet, lvdm.text) for p in [*part.parameters(), *part.buffers()])


def test_parts_that_the_files_lack_are_none_and_half_a_part_is_an_error(tmp_path):
    torch.save(repeated(published("unet")), tmp_path / "unet.ckpt")
    lvdm = weights.load_lvdm(tmp_path / "unet.ckpt")
    assert (lvdm.structure, lvdm.autoencoder, lvdm.text) == (None, None, None)
    state = repeated(published("unet", "adapter"))
    state.pop("adapter.conv_in.bias")
    torch.save(state, tmp_path / "half.ckpt")
    with pytest.raises(WeightsError, match=r"does not fit StructureEncoder: missing: conv_in\.bias"):
        weights.load_lvdm(tmp_path / "half.ckpt")


def test_a_name_of_no_known_part_is_an_error(tmp_path):
    torch.save({**repeated(published("unet")), "model.decoder.weight": torch.ones(1)}, tmp_path / "odd.ckpt")
    with pytest.raises(WeightsError, match=r"not expected: model.decoder.weight"):
        weights.load_lvdm(tmp_path / "odd.ckpt")


def test_an_adapter_is_not_taken_for_a_base(adapter):
    with pytest.raises(WeightsError, match="not the published video model"):
        weights.load_lvdm(adapter)


@pytest.fixture
def fit_shapes():
    return golden.keys("frozen_in_time")["state_dict"]


@pytest.fixture
def published_config(monkeypatch):
    """A live object of a class that only the authors' code has, as in the published checkpoint."""
    module = types.ModuleType("parse_config")

    class ConfigParser:
        def __init__(self):
            self.save_dir = pathlib.PosixPath("/exps/models")

    ConfigParser.__module__, ConfigParser.__qualname__ = "parse_config", "ConfigParser"
    module.ConfigParser = ConfigParser
    monkeypatch.setitem(sys.modules, "parse_config", module)
    yield ConfigParser()
    assert module.ConfigParser is ConfigParser


@pytest.mark.parametrize("zipped", [True, False])
def test_the_published_frozen_in_time_arrives_whole_without_its_authors_code(
    tmp_path, fit_shapes, published_config, monkeypatch, zipped
):
    shapes = {f"module.{key}": shape for key, shape in fit_shapes.items()}
    if not zipped:  # the old format stores repeated numbers in full
        shapes = {key: shape for key, shape in shapes.items() if "temporal_embed" in key}
    checkpoint = {
        "arch": "FrozenInTime",
        "epoch": 3,
        "state_dict": {key: torch.full((1,), number(key[7:])).expand(shape) for key, shape in shapes.items()},
        "optimizer": {},
        "monitor_best": 1.0,
        "config": published_config,
    }
    path = tmp_path / "cc-webvid2m-4f_stformer_b_16_224.pth.tar"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "parse_config")
    if zipped:
        fit = weights.load_frozen_in_time(path)
        assert arrived(fit, fit_shapes)
        assert fit.config.num_frames == 4
    else:
        assert list(read_state_dict(path)) == ["video_model.temporal_embed"]
    assert "parse_config" not in sys.modules


def test_frozen_in_time_takes_more_frames_on_request(tmp_path, fit_shapes):
    state = repeated(fit_shapes)
    state["text_model.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, tmp_path / "fit.pth")
    fit = weights.load_frozen_in_time(tmp_path / "fit.pth", num_frames=8)
    rows = fit.video_model.temporal_embed[0, :, 0].tolist()
    assert rows == [number("video_model.temporal_embed")] * 4 + [0.0] * 4


def test_the_published_midas_arrives_whole(tmp_path):
    shapes = golden.keys("midas")["state_dict"]
    torch.save(repeated(shapes), tmp_path / "dpt_hybrid-midas.pt")
    depth = weights.load_depth(tmp_path / "dpt_hybrid-midas.pt")
    state = depth.model.state_dict()
    names = golden.keys("midas_to_transformers")["map"]
    for key, renamed in names.items():
        for name in [renamed] if isinstance(renamed, str) else renamed or []:
            assert (state[name] == number(key)).all(), key


def test_depth_anything_is_read_from_its_folder(tmp_path):
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_hidden_size=24,
    )
    torch.manual_seed(0)
    reference = DepthAnythingForDepthEstimation(config).eval()
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(reference.state_dict(), tmp_path / "model.safetensors")

    depth = weights.load_depth(tmp_path)
    prepared = depth.prepare(torch.zeros(1, 3, 90, 160))
    assert prepared.shape == (1, 3, 518, 924)
    frames = torch.randn(2, 3, 28, 42)
    with torch.no_grad():
        assert torch.equal(depth.inverse_depth(frames), reference(frames).predicted_depth)
    with pytest.raises(WeightsError, match="not a folder of Depth Anything"):
        weights.load_depth(tmp_path.parent)
