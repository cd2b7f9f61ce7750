"""What stands still in the structure stands still in the picture.

Frames are denoised together, yet a small model lets flat regions shimmer. The guiding depth knows what does not move,
so wherever it keeps still the predicted clean latents are averaged over frames, at every step of the sampler.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sampler import Denoise
from models.schedule import eps_from_x0, x0_from_eps

REACH = 9  # cells; what stands in front moves as a whole, so its middle moves when its edge does
IN_FRONT = 0.06  # of depth above what is behind it in its row
BEHIND = 0.25  # of a row, at least, is not what stands in front


def steady_weights(depth: Tensor, cells: tuple[int, int], tolerance: float) -> Tensor:
    """How much frame j may say about frame i in each latent cell.

    depth (1,1,f,H,W) in [0, 1] -> (f, f, h, w), summing to 1 over j: exp(-(d / tolerance)^2) of the mean change d of
    depth between the two frames in the cell, or, for what stands in front, of the largest such change around it.
    """
    frames = depth[0, 0]
    change = F.adaptive_avg_pool2d((frames[:, None] - frames[None, :]).abs(), cells)
    # Half of its row, not ``BEHIND``: what fills more is averaged though it moves, wheels for one, but with a quarter
    # all else shimmers more (models/STORYBOOK.md).
    in_front = (frames > frames.median(dim=-1, keepdim=True).values + IN_FRONT).float()
    in_front = F.adaptive_avg_pool2d(in_front, cells) > 0.25
    around = F.max_pool2d(change, REACH, stride=1, padding=REACH // 2)
    change = torch.where(in_front[:, None] | in_front[None, :], around, change)
    weights = torch.exp(-((change / tolerance) ** 2))
    return weights / weights.sum(dim=1, keepdim=True)


def steadied(denoise: Denoise, weights: Tensor, alpha_bar: Tensor) -> Denoise:
    """``denoise`` with its clean latents x0 (b,c,f,h,w) averaged over frames by ``weights`` (f,f,h,w)."""

    def steady_denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = x0_from_eps(denoise(x, t), x, t, alpha_bar)
        with torch.autocast(x.device.type, enabled=False):  # which would round the clean latents to 8 bits
            x0 = torch.einsum("ijhw,bcjhw->bcihw", weights, x0)
        return eps_from_x0(x0, x, t, alpha_bar)

    return steady_denoise
