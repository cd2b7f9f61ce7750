"""The paper's model at a hundredth of its weights: files in the published layout, key for key, with narrower layers."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import golden_weights as golden
import pytest
import torch
from torch import Tensor, nn
from transformers import BitConfig, CLIPTextConfig, DPTConfig

from models import autoencoder_kl, depth_net, frozen_in_time, structure, text, unet
from models.autoencoder_kl import FrameAutoencoder
from models.checkpoint import build
from models.text import ClipText
from storycli import catalogue

CHANNELS = (32, 64, 128, 128)  # in the published proportions, so that the same layers have the same keys
UNET = replace(unet.LVDM, channels=CHANNELS, context_dim=32)
STRUCTURE = replace(structure.LVDM, channels=CHANNELS)
CLIP = CLIPTextConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=12, num_attention_heads=4, attn_implementation="sdpa"
)
FROZEN_IN_TIME = replace(
    frozen_in_time.PUBLISHED,
    image_size=32,
    resize=32,
    dim=16,
    depth=1,
    heads=2,
    embed_dim=8,
    text_dim=12,
    text_layers=1,
)
NARROW_DPT = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "neck_hidden_sizes": [32, 64, 32, 32],
    "fusion_hidden_size": 16,
    "backbone_featmap_shape": [1, 128, 24, 24],
}


def narrow_dpt(**sizes) -> DPTConfig:
    backbone = BitConfig(
        embedding_size=8,
        hidden_sizes=[32, 64, 128],
        depths=[3, 4, 9],
        num_groups=4,
        layer_type="bottleneck",
        global_padding="same",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3"],
    )
    return DPTConfig(**sizes | NARROW_DPT, backbone_config=backbone)


@contextmanager
def narrow():
    """The loaders expect the narrow networks; nothing else of the program knows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unet, "LVDM", UNET)
        patch.setattr(structure, "LVDM", STRUCTURE)
        patch.setattr(autoencoder_kl, "FrameAutoencoder", partial(FrameAutoencoder, CHANNELS))
        patch.setattr(text, "ClipText", partial(ClipText, CLIP))
        patch.setattr(depth_net, "DPTConfig", narrow_dpt)
        patch.setattr(frozen_in_time, "PUBLISHED", FROZEN_IN_TIME)
        patch.setitem(catalogue.MODELS, "lvdm", replace(catalogue.MODELS["lvdm"], size=(64, 64)))
        yield


def same(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state


def stored(network: nn.Module, keys: dict[str, list[int]], rename: Callable = same) -> dict[str, Tensor]:
    """Deterministic weights of a network under its published keys; ``rename`` is what its loader does to those."""
    sizes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    state = {}
    for key, shape in keys.items():
        names = list(rename({key: torch.empty(shape, device="meta")}))
        if not names:  # stored, but of no use
            state[key] = torch.zeros(1)
            continue
        first, *others = sizes[names[0]]
        kept = [*others[:1], *[1] * (len(shape) - len(others) - 1), *others[1:]] if others else []
        state[key] = golden.weight(key, [first * len(names), *kept])
    return state


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def write(folder: Path) -> Path:
    """The files of the model, in a folder."""
    keys = golden.keys("lvdm")
    positions = keys["cond_stage_model"]["non_float"]
    parts = {
        "unet": prefixed("model.diffusion_model.", stored(build(unet.VideoUNet, UNET), keys["unet"]["keys"])),
        "autoencoder": prefixed(
            "first_stage_model.",
            stored(
                build(FrameAutoencoder, CHANNELS).model,
                keys["first_stage_model"]["keys"],
                autoencoder_kl.from_published,
            ),
        ),
        "text": prefixed(
            "cond_stage_model.",
            stored(
                build(ClipText, CLIP).model,
                {key: shape for key, shape in keys["cond_stage_model"]["keys"].items() if key not in positions},
                lambda state: {key.removeprefix("transformer.text_model."): tensor for key, tensor in state.items()},
            ),
        ),
    }
    parts["schedule"] = {key: torch.zeros(1000) for key in keys["schedule_buffers"]["keys"]}
    parts["text"]["cond_stage_model." + next(iter(positions))] = torch.arange(77)[None]
    base = {key: tensor for part in parts.values() for key, tensor in part.items()}
    adapter = stored(build(structure.StructureEncoder, STRUCTURE), keys["adapter"]["keys"])
    with narrow():
        dpt = build(depth_net.DptHybrid).model
    midas = stored(dpt, golden.keys("midas")["state_dict"], depth_net.from_midas)
    midas["scratch.output_conv.4.bias"].fill_(12)  # before a ReLU that would leave nothing
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": base, "global_step": 1}, folder / "model_rm_wtm.ckpt")
    torch.save(adapter, folder / "adapter.pth")
    torch.save(midas, folder / "dpt_hybrid-midas.pt")
    fit = build(frozen_in_time.FrozenInTime, FROZEN_IN_TIME).state_dict()
    fit = golden.weights({key: tensor.shape for key, tensor in fit.items()})
    torch.save({"state_dict": fit}, folder / "frozen-in-time.pth.tar")
    return folder
