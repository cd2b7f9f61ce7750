"""The blocks of the LVDM video U-Net (He et al. 2022): Stable Diffusion's, plus attention over time.

Activations are ``((b f), c, h, w)``; every block that needs to know where a clip ends is told the number of
frames ``f``. Attribute names are those of the published checkpoints, so a state dict loads as it is.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Groups = Callable[[int], int]  # channels -> number of GroupNorm groups


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of diffusion time, cosines first: (b,) -> (b, dim) in float32."""
    half = dim // 2
    freqs = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t[:, None].float() * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def zero_init(module: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero, so that its branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


WIDE = torch.backends.cpu.get_cpu_capability() == "AVX512"  # of a CPU: whether its registers hold 512 bits


def in_fp32_on_cpu(x: Tensor) -> bool:
    """Whether a layer multiplies x in fp32, and on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


class Conv2d(nn.Conv2d):
    """A convolution that on a CPU takes small maps channel by channel, whatever their layout in memory.

    oneDNN's kernels for channels-last work row by row: with 1280 channels a map of 4x4 is done at 96 instead of 181
    GFLOP/s in fp32, and at 210 instead of 350 in bf16; of 8x8 at 162 instead of 207 in fp32. On a core with AVX2
    alone that holds for so many channels too (28 and 42 GFLOP/s at 4x4), but not for 192 (70 and 45).
    """

    def forward(self, x: Tensor) -> Tensor:
        small = 64 if in_fp32_on_cpu(x) else 16
        worth_it = x.shape[2] * x.shape[3] <= small and (WIDE or self.in_channels > 512)
        if x.device.type == "cpu" and worth_it and self.weight.is_contiguous():
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class Linear(nn.Linear):
    """A linear layer, as a convolution of one pixel where that is quicker: for fp32 on a CPU with AVX-512.

    PyTorch multiplies fp32 matrices with MKL, which uses half the width of processors of other makers; its
    convolutions come from oneDNN, which does not (90 and 200 GFLOP/s on a Zen 5 core). With one thread only batches of
    16 and more go there, so rows are dealt out as so many images where they can be.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (WIDE and in_fp32_on_cpu(x)) or not x.numel():
            return super().forward(x)
        rows = x.numel() // x.shape[-1]
        n = next((n for n in range(16, 32) if rows % n == 0), 1)
        images = x.reshape(n, 1, -1, x.shape[-1])  # (n, 1, w, c)
        out = F.conv2d(images.permute(0, 3, 1, 2), self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class ClipGroupNorm(nn.GroupNorm):
    """GroupNorm whose statistics run over all frames of a clip, as on a 5-D tensor.

    ((b f), c, h, w) -> the same shape. In channels-last memory the clip is folded into the height by a view,
    without a copy.
    """

    def forward(self, x: Tensor, f: int) -> Tensor:
        if f == 1:
            return super().forward(x)
        n, c, h, w = x.shape
        clip = x.permute(0, 2, 3, 1).reshape(n // f, f * h, w, c).permute(0, 3, 1, 2)
        return super().forward(clip).permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Residual block of two convolutions with the time embedding between them.

    ((b f), c_in, h, w), emb ((b f), c_emb) -> ((b f), c_out, h, w). ``scale_shift`` modulates the second norm
    (Dhariwal & Nichol 2021, eq. 4) instead of adding the embedding.
    """

    def __init__(self, c_in: int, c_out: int, c_emb: int, *, groups: Groups, scale_shift: bool = False):
        super().__init__()
        self.scale_shift = scale_shift
        in_norm, out_norm = ClipGroupNorm(groups(c_in), c_in, eps=1e-5), ClipGroupNorm(groups(c_out), c_out, eps=1e-5)
        self.in_layers = nn.ModuleList([in_norm, nn.SiLU(), Conv2d(c_in, c_out, 3, padding=1)])
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(c_emb, c_out * (2 if scale_shift else 1)))
        out_conv = zero_init(Conv2d(c_out, c_out, 3, padding=1))
        self.out_layers = nn.ModuleList([out_norm, nn.SiLU(), nn.Dropout(0.0), out_conv])
        self.skip_connection = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, emb: Tensor, f: int) -> Tensor:
        in_norm, _, in_conv = self.in_layers
        out_norm, _, _, out_conv = self.out_layers
        h = in_conv(F.silu(in_norm(x, f)))
        emb = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = emb.chunk(2, dim=1)
            h = out_norm(h, f) * (1 + scale) + shift
        else:
            h = out_norm(h + emb, f)
        return self.skip_connection(x) + out_conv(F.silu(h))


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to a context.

    x (n, tokens, c), context (n, l, d) or None, mask (n, l) bool (True = attend) or None -> (n, tokens, c).
    """

    def __init__(self, c: int, c_context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(c, c, bias=False)
        self.to_k = Linear(c_context, c, bias=False)
        self.to_v = Linear(c_context, c, bias=False)
        self.to_out = nn.Sequential(Linear(c, c), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(context)), self.split(self.to_v(context))
        if mask is not None:
            mask = mask[:, None, None, :]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out(out.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, tokens, c / heads)


class RelativePosition(nn.Module):
    """A learnt vector per distance between two frames (Shaw et al. 2018), distances clipped to the table."""

    def __init__(self, width: int, max_distance: int):
        super().__init__()
        self.max_distance = max_distance
        self.embeddings_table = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * max_distance + 1, width)))

    def forward(self, f: int) -> Tensor:
        """-> (f, f, width): entry [i, j] stands for frame j seen from frame i."""
        frames = torch.arange(f, device=self.embeddings_table.device)
        distance = (frames[None, :] - frames[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.embeddings_table[distance + self.max_distance]


class TemporalAttention(nn.Module):
    """Attention of every position to itself in the other frames, with relative positions in keys and values.

    (b, f, tokens, c) -> the same shape. Starts as zero: an untrained temporal layer changes nothing.
    """

    def __init__(self, c: int, heads: int, max_distance: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (zero_init(Linear(c, c, bias=False)) for _ in range(3))
        self.to_out = nn.Sequential(zero_init(Linear(c, c)), nn.Dropout(0.0))
        self.relative_position_k = RelativePosition(c // heads, max_distance)
        self.relative_position_v = RelativePosition(c // heads, max_distance)

    def forward(self, x: Tensor) -> Tensor:
        f = x.shape[1]
        q, k, v = (self.split(project(x)) for project in (self.to_q, self.to_k, self.to_v))
        q = q * q.shape[-1] ** -0.5
        relative_k = self.relative_position_k(f).to(q.dtype)
        relative_v = self.relative_position_v(f).to(q.dtype)
        logits = q @ k.transpose(-1, -2) + torch.einsum("nid,ijd->nij", q, relative_k)
        weights = logits.softmax(-1).to(q.dtype)
        out = weights @ v + torch.einsum("nij,ijd->nid", weights, relative_v)
        b, _, tokens, _ = x.shape
        out = out.unflatten(0, (b, tokens, self.heads)).permute(0, 3, 1, 2, 4).flatten(3)
        return self.to_out(out)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 2)  # ((b tokens heads), f, d)


class GEGLU(nn.Module):
    """Linear layer gated by an exact GELU (Shazeer 2020)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.proj = Linear(c_in, 2 * c_out)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, c: int, mult: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(c, mult * c), nn.Dropout(0.0), Linear(mult * c, c))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """space -> time -> text -> time -> feed-forward, each ``x + f(norm(x))``.

    The norms are numbered as in the checkpoints (1, 4, 2, 5, 3), not in the order of execution; ``attn2_tmp`` is
    self-attention over time although its sibling ``attn2`` reads the text.
    """

    def __init__(self, c: int, c_context: int, heads: int, *, ff_mult: int, self_attention: bool, max_distance: int):
        super().__init__()
        self.attn1 = Attention(c, c, heads) if self_attention else None
        self.norm1 = nn.LayerNorm(c) if self_attention else None
        self.attn2 = Attention(c, c_context, heads)
        self.norm2 = nn.LayerNorm(c)
        self.ff = FeedForward(c, ff_mult)
        self.norm3 = nn.LayerNorm(c)
        self.attn1_tmp = TemporalAttention(c, heads, max_distance)
        self.norm4 = nn.LayerNorm(c)
        self.attn2_tmp = TemporalAttention(c, heads, max_distance)
        self.norm5 = nn.LayerNorm(c)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None, f: int, temporal: bool) -> Tensor:
        """x ((b f), (h w), c), context (b, l, d), mask (b, l) or None -> like x."""
        tokens = x.shape[1]
        if self.attn1 is not None:
            x = x + self.attn1(self.norm1(x))
        x = x.unflatten(0, (-1, f))  # (b, f, (h w), c)
        if temporal:
            x = x + self.attn1_tmp(self.norm4(x))
        # Every frame reads the same text, so the frames of a clip are queries of one attention.
        x = x.flatten(1, 2)
        x = x + self.attn2(self.norm2(x), context, mask)
        x = x.unflatten(1, (f, tokens))
        if temporal:
            x = x + self.attn2_tmp(self.norm5(x))
        x = x.flatten(0, 1)
        return x + self.ff(self.norm3(x))


class SpatialTemporalTransformer(nn.Module):
    """norm -> project -> transformer block over tokens -> project back, as a residual.

    ((b f), c, h, w), context (b, l, d) -> ((b f), c, h, w).
    """

    def __init__(self, c: int, c_context: int, heads: int, *, groups: Groups, **block):
        super().__init__()
        self.norm = ClipGroupNorm(groups(c), c, eps=1e-6)
        self.proj_in = nn.Conv2d(c, c, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(c, c_context, heads, **block)])
        self.proj_out = zero_init(nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None, f: int, temporal: bool) -> Tensor:
        h, w = x.shape[-2:]
        tokens = self.proj_in(self.norm(x, f)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, mask, f, temporal)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, (h, w)))


class Downsample(nn.Module):
    """Halve height and width by a strided convolution."""

    def __init__(self, c: int):
        super().__init__()
        self.op = Conv2d(c, c, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution."""

    def __init__(self, c: int):
        super().__init__()
        self.conv = Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
