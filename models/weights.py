"""The networks with their weights: the built-in ones, and published ones in their authors' file layouts.

Imports of networks are local: loading one model should not cost the import of all of them.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint import (
    OTHER_MODEL,
    StateDict,
    WeightsError,
    build,
    fill,
    first_few,
    load,
    read_metadata,
    read_state_dict,
    save,
    write_tensors,
)

if TYPE_CHECKING:
    from models.autoencoder import StorybookAutoencoder
    from models.depth_net import DepthAnything, DptHybrid
    from models.frozen_in_time import FrozenInTime
    from models.image_text import ImageText
    from models.text import MiniLM
    from models.video_model import VideoModel

__all__ = [
    "WeightsError",
    "load",
    "load_autoencoder",
    "load_depth",
    "load_frozen_in_time",
    "load_image_text",
    "load_lvdm",
    "load_minilm",
    "load_storybook",
    "read_metadata",
    "read_state_dict",
    "save",
    "write_tensors",
]


def load_minilm(folder: Path | str | None = None) -> "MiniLM":
    """The text encoder of the built-in models, from its package or from a folder like it; frozen."""
    from models.text import MiniLM, minilm_folder

    path = Path(folder or minilm_folder()) / "model.safetensors"
    state = {
        k: v for k, v in read_state_dict(path).items() if not k.startswith("pooler.") and k != "embeddings.position_ids"
    }
    text = build(MiniLM, folder=path.parent)
    fill(text.model, state, path)
    return text.requires_grad_(False)


def load_autoencoder(path: Path | str) -> "StorybookAutoencoder":
    """The storybook autoencoder on its own; frozen. Raises WeightsError."""
    from models.autoencoder import AutoencoderConfig, StorybookAutoencoder

    return load(path, StorybookAutoencoder, AutoencoderConfig).requires_grad_(False)


def load_storybook(folder: Path | str) -> "VideoModel":
    """The built-in video model from the files of its parts, in evaluation mode. Raises WeightsError."""
    from models.schedule import cosine
    from models.structure import StructureConfig, StructureEncoder
    from models.unet import UNetConfig, VideoUNet
    from models.upscaler import Upscaler, UpscalerConfig
    from models.video_model import VideoModel

    folder = Path(folder)
    return VideoModel(
        unet=load(folder / "storybook-unet.safetensors", VideoUNet, UNetConfig).requires_grad_(False),
        structure=load(folder / "storybook-structure.safetensors", StructureEncoder, StructureConfig).requires_grad_(
            False
        ),
        autoencoder=load_autoencoder(folder / "storybook-autoencoder.safetensors"),
        text=load_minilm(),
        alpha_bar=cosine(),
        predicts="v",
        shared_noise=0.5,
        steady=0.03,
        carries=True,
        upscaler=load(folder / "storybook-upscaler.safetensors", Upscaler, UpscalerConfig).requires_grad_(False),
    )


PUBLISHED_PARTS = {
    "unet": "model.diffusion_model.",
    "structure": "adapter.",
    "autoencoder": "first_stage_model.",
    "text": "cond_stage_model.transformer.text_model.",
}
# Also in published files: MiDaS, which has a file of its own, a moving average, and the schedule in twelve
# forms.
PUBLISHED_EXTRAS = re.compile(
    r"depth_stage_model\.|model_ema\.|betas$|(log_one_minus_|sqrt_(one_minus_|recip_|recipm1_)?)?alphas_cumprod(_prev)?$"
    r"|posterior_(variance|log_variance_clipped|mean_coef[12])$|logvar$"
)


def load_lvdm(base: Path | str, adapter: Path | str | None = None, tokenizer: Path | str | None = None) -> "VideoModel":
    """VideoCrafter's base model and depth adapter from files in the published layout, frozen and in evaluation mode.

    ``base`` holds the U-Net and usually the autoencoder and the text encoder; ``adapter`` the structure
    encoder, which may also be inside ``base``; ``tokenizer`` is a folder with CLIP's. A part must be whole or
    absent. Raises WeightsError.
    """
    from models import autoencoder_kl, structure, text, unet
    from models.schedule import scaled_linear
    from models.video_model import VideoModel

    parts: dict[str, StateDict] = {name: {} for name in PUBLISHED_PARTS}
    unknown = []
    for key, tensor in read_state_dict(base).items():
        for name, prefix in PUBLISHED_PARTS.items():
            if key.startswith(prefix):
                parts[name][key.removeprefix(prefix)] = tensor
                break
        else:
            unknown += [] if PUBLISHED_EXTRAS.match(key) else [key]
    if unknown or not parts["unet"]:
        found = first_few("not expected", unknown)
        raise WeightsError(f"{base} is not the published video model" + (f": {found}" if found else ""), OTHER_MODEL)
    if adapter is not None:
        parts["structure"] = {k.removeprefix("adapter."): v for k, v in read_state_dict(adapter).items()}
    parts["text"].pop("embeddings.position_ids", None)

    loaded: dict[str, Any] = dict.fromkeys(parts)
    # A convolution over single frames is stored as a 3-D one whose kernel is 1 in time.
    state = {key: tensor[:, :, 0] if tensor.ndim == 5 else tensor for key, tensor in parts["unet"].items()}
    loaded["unet"] = build(unet.VideoUNet, unet.LVDM)
    fill(loaded["unet"], state, base)
    if parts["structure"]:
        loaded["structure"] = build(structure.StructureEncoder, structure.LVDM)
        fill(loaded["structure"], parts["structure"], adapter or base)
    if parts["autoencoder"]:
        loaded["autoencoder"] = build(autoencoder_kl.FrameAutoencoder)
        fill(loaded["autoencoder"].model, autoencoder_kl.from_published(parts["autoencoder"]), base)
    if parts["text"]:
        loaded["text"] = build(text.ClipText, tokenizer_dir=tokenizer and Path(tokenizer))
        fill(loaded["text"].model, parts["text"], base)
    for network in filter(None, loaded.values()):
        network.requires_grad_(False)
    return VideoModel(alpha_bar=scaled_linear(), exact=True, **loaded)


def load_frozen_in_time(path: Path | str, num_frames: int | None = None, temporal: str = "zeros") -> "FrozenInTime":
    """Frozen in Time from its published checkpoint, frozen and in evaluation mode.

    ``num_frames`` is the most frames it will take, by default as many as it was trained on; ``temporal`` says how the
    temporal embedding is stretched for more (``frozen_in_time.resize_temporal``). Raises WeightsError.
    """
    from models.frozen_in_time import PUBLISHED, FrozenInTime, resize_temporal

    state = read_state_dict(path)
    state.pop("text_model.embeddings.position_ids", None)
    key = "video_model.temporal_embed"
    if key not in state:
        raise WeightsError(f"{path} is not a Frozen in Time checkpoint: there is no {key}")
    num_frames = num_frames or state[key].shape[1]
    state[key] = resize_temporal(state[key], num_frames, temporal)
    network = build(FrozenInTime, replace(PUBLISHED, num_frames=num_frames))
    fill(network, state, path)
    return network.requires_grad_(False)


def load_image_text(folder: Path | str) -> "ImageText":
    """CLIP or SigLIP from a folder of transformers', frozen and in evaluation mode. Raises WeightsError."""
    from models.image_text import ImageText

    folder = Path(folder)
    try:
        network = build(ImageText, folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{folder} is not a folder of CLIP or SigLIP: {error}", OTHER_MODEL) from error
    state = read_state_dict(folder / "model.safetensors")
    fill(network.model, {k: v for k, v in state.items() if not k.endswith(".position_ids")}, folder)
    return network.requires_grad_(False)


def load_depth(path: Path | str) -> "DptHybrid | DepthAnything":
    """A depth network in evaluation mode: MiDaS's dpt_hybrid from a file, Depth Anything V2 from its folder.

    The folder is one of transformers': ``config.json`` and ``model.safetensors``. Raises WeightsError.
    """
    from models.depth_net import DepthAnything, DptHybrid, from_midas

    path = Path(path)
    if path.is_dir():
        from transformers import DepthAnythingConfig

        try:
            config = DepthAnythingConfig(**json.loads((path / "config.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise WeightsError(f"{path} is not a folder of Depth Anything: {error}") from error
        network, state = build(DepthAnything, config), read_state_dict(path / "model.safetensors")
    else:
        network, state = build(DptHybrid), from_midas(read_state_dict(path))
    fill(network.model, state, path)
    return network.requires_grad_(False)
