"""Frozen in Time: one space for short videos and sentences (Bain et al. 2021), the retrieval network.

A ViT with divided space-time attention sees the frames, DistilBERT reads the text, and two linear maps lead
to vectors whose cosine is the similarity. Parameter names are those of the published checkpoint.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import DistilBertConfig, DistilBertModel

from models.text import bert_tokenizer

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenInTimeConfig:
    image_size: int  # pixels the network sees, after ...
    resize: int  # ... the shorter side was brought to this and a square cut from the centre
    patch: int
    num_frames: int
    dim: int
    depth: int
    heads: int
    embed_dim: int
    text_dim: int
    text_layers: int  # of an own DistilBERT; 0 = text features come from outside, see ``project_text``


PUBLISHED = FrozenInTimeConfig(
    image_size=224,
    resize=256,
    patch=16,
    num_frames=4,
    dim=768,
    depth=12,
    heads=12,
    embed_dim=256,
    text_dim=768,
    text_layers=6,
)
STORYBOOK = FrozenInTimeConfig(
    image_size=128,
    resize=128,
    patch=16,
    num_frames=4,
    dim=192,
    depth=4,
    heads=6,
    embed_dim=256,
    text_dim=384,
    text_layers=0,
)


class DividedAttention(nn.Module):
    """Attention within groups of tokens: one position over time, or one frame over space.

    x (b, 1 + f n, d), frame-major after a class token -> the same shape. The class token attends to
    everything, and every group attends to itself and to the class token.
    """

    GROUPS: ClassVar = {
        "time": "b heads (f n) d -> (b n) heads f d",
        "space": "b heads (f n) d -> (b f) heads n d",
    }

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, f: int, over: str) -> Tensor:
        group = self.GROUPS[over]
        together, grouped = group.split(" -> ")
        q, k, v = rearrange(self.qkv(x), "b l (three heads d) -> three b heads l d", three=3, heads=self.heads)
        cls = F.scaled_dot_product_attention(q[:, :, :1], k, v)

        q, own_k, own_v = (rearrange(y[:, :, 1:], group, f=f) for y in (q, k, v))
        copies = len(q) // len(x)
        cls_k, cls_v = (repeat(y[:, :, :1], "b heads one d -> (b copies) heads one d", copies=copies) for y in (k, v))
        patches = F.scaled_dot_product_attention(q, torch.cat([cls_k, own_k], 2), torch.cat([cls_v, own_v], 2))
        patches = rearrange(patches, f"{grouped} -> {together}", b=len(x), f=f)
        return self.proj(rearrange(torch.cat([cls, patches], 2), "b heads l d -> b l (heads d)"))


class SpaceTimeBlock(nn.Module):
    """Time, then space, then a perceptron; the residual of space is x, not what time made of it."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm3 = nn.LayerNorm(dim, eps=1e-6)
        self.timeattn = DividedAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = DividedAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        layers = OrderedDict(fc1=nn.Linear(dim, 4 * dim), act=nn.GELU(), fc2=nn.Linear(4 * dim, dim))
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor, f: int) -> Tensor:
        timed = x + self.timeattn(self.norm3(x), f, "time")
        x = x + self.attn(self.norm1(timed), f, "space")
        return x + self.mlp(self.norm2(x))


class SpaceTimeTransformer(nn.Module):
    """ViT over the patches of a few frames: (b, 3, f, H, W) -> the class token's final state (b, d).

    Takes up to ``config.num_frames`` frames; one frame is an image. Raises ValueError for more, or for another size.
    """

    def __init__(self, config: FrozenInTimeConfig):
        super().__init__()
        self.config = config
        side = config.image_size // config.patch
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, config.dim, config.patch, config.patch)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, config.dim))
        self.temporal_embed = nn.Parameter(torch.zeros(1, config.num_frames, config.dim))
        self.blocks = nn.ModuleList(SpaceTimeBlock(config.dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Truncated normals of 0.02, and time branches that start at zero: it starts as an image model.

        (The published recipe zeroes timeattn.qkv and fills timeattn.proj with ones, which makes all channels learn
        alike.)
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        for block in self.blocks:
            nn.init.zeros_(block.timeattn.proj.weight)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, video: Tensor) -> Tensor:
        f, size = video.shape[2], self.config.image_size
        if f > self.config.num_frames or video.shape[3:] != (size, size):
            raise ValueError(f"needs up to {self.config.num_frames} frames of {size}x{size}, not {tuple(video.shape)}")
        x = self.embed(video)
        for block in self.blocks:
            x = block(x, f)
        return self.norm(x)[:, 0]

    def embed(self, video: Tensor) -> Tensor:
        """Tokens (b, 1 + f n, d): the class token, the patches of frame 0 in raster order, frame 1, ..."""
        b, f = len(video), video.shape[2]
        patches = self.patch_embed(rearrange(video, "b c f h w -> (b f) c h w"))
        patches = rearrange(patches, "(b f) d h w -> b f (h w) d", f=f)
        patches = patches + self.pos_embed[:, None, 1:] + self.temporal_embed[:, :f, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1)
        return torch.cat([cls, patches.flatten(1, 2)], dim=1)


class FrozenInTime(nn.Module):
    """Both towers. Embeddings are not normalised; compare them with ``models.metrics.cosine``."""

    def __init__(self, config: FrozenInTimeConfig = PUBLISHED):
        super().__init__()
        self.config = config
        self.text_model = None
        if config.text_layers:
            self.text_model = DistilBertModel(DistilBertConfig(n_layers=config.text_layers, dim=config.text_dim))
        self.video_model = SpaceTimeTransformer(config)
        # The published text head starts with a ReLU, which an own tower learns to live with and a frozen one
        # could not.
        first = nn.ReLU() if config.text_layers else nn.Identity()
        self.txt_proj = nn.Sequential(first, nn.Linear(config.text_dim, config.embed_dim))
        self.vid_proj = nn.Sequential(nn.Linear(config.dim, config.embed_dim))

    def preprocess(self, video: Tensor) -> Tensor:
        """Pixels (b, 3, f, H, W) in [-1, 1] -> what ``encode_video`` takes; see the function of this name."""
        return preprocess(video, self.config)

    def encode_video(self, frames: Tensor) -> Tensor:
        """frames (b, 3, f, H, W) as ``preprocess`` makes them -> (b, embed_dim)."""
        return self.vid_proj(self.video_model(frames))

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask (b, l) -> (b, embed_dim). Raises ValueError for a network without text tower."""
        if self.text_model is None:
            raise ValueError("this network has no text tower; give sentence features to project_text")
        states = self.text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.project_text(states[:, 0])

    def project_text(self, features: Tensor) -> Tensor:
        """Text features (b, text_dim), such as ``text.mean_pool`` of MiniLM's states, -> (b, embed_dim)."""
        return self.txt_proj(features)

    def tokenize(self, prompts: Sequence[str], max_tokens: int = 512) -> tuple[Tensor, Tensor]:
        """Token ids and mask (b, l), padded to the longest prompt."""
        tokens = bert_tokenizer()(
            list(prompts), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        return tokens["input_ids"], tokens["attention_mask"]


def frame_indices(num_frames: int, length: int) -> list[int]:
    """The middle frames of ``num_frames`` equal parts of a video; all frames of a video with fewer."""
    n = min(num_frames, length)
    edges = np.linspace(0, length, n + 1).astype(int).tolist()  # truncated, as in the reference
    return [(start + end - 1) // 2 for start, end in pairwise(edges)]


def preprocess(video: Tensor, config: FrozenInTimeConfig = PUBLISHED) -> Tensor:
    """Pixels (b, 3, f, H, W) in [-1, 1] -> (b, 3, num_frames, size, size), ImageNet-normalised.

    Shorter side to ``resize``, centre square, then to ``image_size``; bilinear without antialiasing, as torchvision
    0.9 did. A video with fewer frames than ``num_frames`` is filled up with zeros, as in training.
    """
    f = video.shape[2]
    x = rearrange(video, "b c f h w -> (b f) c h w")
    h, w = x.shape[2:]
    scale = config.resize / min(h, w)
    x = _bilinear(x, (config.resize, int(w * scale)) if h <= w else (int(h * scale), config.resize))
    top, left = (round((side - config.resize) / 2) for side in x.shape[2:])
    x = x[..., top : top + config.resize, left : left + config.resize]
    x = _bilinear(x, (config.image_size, config.image_size))
    mean, std = (torch.tensor(v, device=x.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    x = rearrange(((x + 1) / 2 - mean) / std, "(b f) c h w -> b c f h w", f=f)
    return F.pad(x, (0, 0, 0, 0, 0, max(config.num_frames - f, 0)))


def _bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def norm_softmax_loss(similarity: Tensor, temperature: float = 0.05) -> Tensor:
    """Contrastive loss of a batch: similarity (b, b), true pairs on the diagonal; both directions summed."""
    logits = similarity / temperature
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean())


def resize_temporal(embed: Tensor, num_frames: int, mode: str = "zeros") -> Tensor:
    """temporal_embed (1, f, d) for another number of frames: its first rows, or more as ``mode`` says.

    "zeros" appends zeros, "interp" repeats the nearest rows, "bilinear" interpolates along time.
    """
    f = embed.shape[1]
    if num_frames <= f:
        return embed[:, :num_frames]
    if mode == "zeros":
        return F.pad(embed, (0, 0, 0, num_frames - f))
    if mode == "interp":
        return F.interpolate(embed.mT, num_frames, mode="nearest").mT
    if mode == "bilinear":
        return F.interpolate(embed.mT, num_frames, mode="linear", align_corners=False).mT
    raise ValueError(f"no such way to stretch the temporal embedding: {mode}")
