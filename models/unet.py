"""The video denoiser: LVDM's 3-D U-Net at two sizes (He et al. 2022; published key layout of VideoCrafter v0.x)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers import (
    ClipGroupNorm,
    Downsample,
    ResBlock,
    SpatialTemporalTransformer,
    Upsample,
    timestep_embedding,
    zero_init,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    latent_channels: int
    channels: tuple[int, ...]  # one entry per level, finest first
    num_res_blocks: int
    transformer_levels: tuple[int, ...]  # levels that have a SpatialTemporalTransformer
    self_attention_levels: tuple[int, ...]
    context_dim: int
    middle_transformer: bool = True
    num_heads: int | None = None  # heads in every transformer, or ...
    head_dim: int | None = None  # ... channels in every head
    norm_groups: int | None = None  # groups in every GroupNorm, or ...
    norm_width: int | None = None  # ... channels in every group; 16 fills an AVX-512 register (27 % of a step saved)
    ff_mult: int = 4
    max_distance: int = 16  # frames that the relative positions tell apart
    pooled_text: bool = False  # add the mean of the context to the time embedding
    scale_shift: bool = False
    temporal_stills: bool = True  # run the temporal layers on single frames too

    def heads(self, c: int) -> int:
        return self.num_heads or c // self.head_dim

    def groups(self, c: int) -> int:
        return self.norm_groups or c // self.norm_width


LVDM = UNetConfig(
    latent_channels=4,
    channels=(320, 640, 1280, 1280),
    num_res_blocks=2,
    transformer_levels=(0, 1, 2),
    self_attention_levels=(0, 1, 2, 3),
    context_dim=768,
    num_heads=8,
    norm_groups=32,
)
STORYBOOK = UNetConfig(
    latent_channels=8,
    channels=(64, 128, 192),
    num_res_blocks=1,
    transformer_levels=(0, 1, 2),
    self_attention_levels=(1, 2),
    context_dim=384,
    head_dim=32,
    norm_width=16,
    ff_mult=2,
    pooled_text=True,
    scale_shift=True,
    temporal_stills=False,
)


class VideoUNet(nn.Module):
    """Predict the noise (or velocity) in a latent clip, given text and, optionally, structure.

    x (b, c, f, h, w), t (b,), context (b, l, d) -> (b, c, f, h, w). ``structure`` is the list that a
    ``StructureEncoder`` gives, added after the last block of each level; ``context_mask`` (b, l) marks the
    tokens that are words. Height and width must be divisible by 2 ** (levels - 1).
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False  # trade time for memory while training
        c0, c_emb = config.channels[0], 4 * config.channels[0]

        def res(c_in: int, c_out: int) -> ResBlock:
            return ResBlock(c_in, c_out, c_emb, groups=config.groups, scale_shift=config.scale_shift)

        def transformer(c: int, level: int) -> SpatialTemporalTransformer:
            return SpatialTemporalTransformer(
                c,
                config.context_dim,
                config.heads(c),
                groups=config.groups,
                ff_mult=config.ff_mult,
                self_attention=level in config.self_attention_levels,
                max_distance=config.max_distance,
            )

        self.time_embed = nn.Sequential(nn.Linear(c0, c_emb), nn.SiLU(), nn.Linear(c_emb, c_emb))
        self.text_embed = nn.Linear(config.context_dim, c_emb) if config.pooled_text else None

        last = len(config.channels) - 1
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(config.latent_channels, c0, 3, padding=1)])])
        self.structure_blocks = []  # indices of the input blocks after which structure is added
        skips = [c0]
        c = c0
        for level, width in enumerate(config.channels):
            for _ in range(config.num_res_blocks):
                block = [res(c, width)]
                if level in config.transformer_levels:
                    block.append(transformer(width, level))
                self.input_blocks.append(nn.ModuleList(block))
                c = width
                skips.append(c)
            self.structure_blocks.append(len(self.input_blocks) - 1)
            if level != last:
                self.input_blocks.append(nn.ModuleList([Downsample(c)]))
                skips.append(c)

        middle = [transformer(c, last)] if config.middle_transformer else []
        self.middle_block = nn.ModuleList([res(c, c), *middle, res(c, c)])

        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(config.channels))):
            for index in range(config.num_res_blocks + 1):
                block = [res(c + skips.pop(), width)]
                c = width
                if level in config.transformer_levels:
                    block.append(transformer(c, level))
                if level and index == config.num_res_blocks:
                    block.append(Upsample(c))
                self.output_blocks.append(nn.ModuleList(block))

        out_conv = zero_init(nn.Conv2d(c, config.latent_channels, 3, padding=1))
        self.out = nn.ModuleList([ClipGroupNorm(config.groups(c), c, eps=1e-5), nn.SiLU(), out_conv])

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        structure: Sequence[Tensor] | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        f = x.shape[2]
        emb = self.embed(t, context, context_mask).repeat_interleave(f, dim=0)
        if structure is not None and len(structure) != len(self.structure_blocks):
            raise ValueError(f"{len(structure)} structure features for {len(self.structure_blocks)} levels")

        # Encoder
        h = rearrange(x, "b c f h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        skips = []
        for index, block in enumerate(self.input_blocks):
            h = self.run(block, h, emb, context, context_mask, f)
            if structure is not None and index in self.structure_blocks:
                feature = structure[self.structure_blocks.index(index)]
                h = h + rearrange(feature, "b c f h w -> (b f) c h w").to(h.dtype)
            skips.append(h)

        # Middle
        h = self.run(self.middle_block, h, emb, context, context_mask, f)

        # Decoder
        for block in self.output_blocks:
            h = self.run(block, torch.cat([h, skips.pop()], dim=1), emb, context, context_mask, f)
        norm, activation, conv = self.out
        h = conv(activation(norm(h, f)))
        return rearrange(h, "(b f) c h w -> b c f h w", f=f)

    def embed(self, t: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Diffusion time and, where configured, the mean of the text: (b,) and (b, l, d) -> (b, c_emb)."""
        emb = self.time_embed(timestep_embedding(t, self.config.channels[0]).to(self.dtype))
        if self.text_embed is not None:
            words = torch.ones_like(context[..., :1]) if mask is None else mask[..., None].to(context.dtype)
            emb = emb + self.text_embed((context * words).sum(1) / words.sum(1))
        return emb

    def run(self, block: nn.ModuleList, h: Tensor, emb: Tensor, context: Tensor, mask: Tensor | None, f: int) -> Tensor:
        temporal = f > 1 or self.config.temporal_stills
        for layer in block:
            if isinstance(layer, ResBlock):
                arguments = (h, emb, f)
            elif isinstance(layer, SpatialTemporalTransformer):
                arguments = (h, context, mask, f, temporal)
            else:
                arguments = (h,)
            if self.checkpointing and torch.is_grad_enabled():
                h = checkpoint(layer, *arguments, use_reentrant=False)
            else:
                h = layer(*arguments)
        return h

    @property
    def dtype(self) -> torch.dtype:
        return self.time_embed[0].weight.dtype
