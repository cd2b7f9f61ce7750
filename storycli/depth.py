"""Depth of a clip: where things are and how they move, without what they look like.

Networks see one frame at a time; what makes their answers the depth of a *clip* happens here: places where nothing
changes are averaged over time, and one scale serves all frames.
"""

import functools
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from models import weights
from models.depth_net import DepthNetwork, estimate, scale_clip, scale_frames
from models.depth_small import DepthSmall, DepthSmallConfig
from models.precision import pick_device
from models.steady import BEHIND, IN_FRONT
from storycli import catalogue
from storycli.errors import StoryError

AT_ONCE = 8  # frames through the network together
CUT = 0.01  # of a clip's pixels at either end, which do not set its scale
SAME_COLOUR = 0.04  # of the range of a colour; what changes by less is taken to stand still
REACH = 2  # frames to either side that are averaged
AROUND = 40  # what moves keeps this share of the picture's shorter side around it from being averaged


class DepthEstimator:
    """Relative inverse depth of clips, by the network called ``name`` or the one that goes with a video model.

    ``storybook`` is built in. ``dpt_hybrid`` is MiDaS's (Ranftl et al. 2021), which the paper uses, and
    ``depth_anything_v2_small`` (Yang et al. 2024) keeps proportions; their weights have to be there (``path``, or where
    pulled ones are kept). Raises StoryError when they are not, or do not fit.
    """

    def __init__(self, name: str = "storybook", device: str = "auto", path: Path | None = None):
        self.device = pick_device(device)
        try:
            self.network = load(catalogue.LEARNT_WITH.get(name, name), path).to(self.device)
        except weights.WeightsError as error:
            raise StoryError(error.message, error.hint) from error

    @torch.inference_mode()
    def estimate(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (f, h, w, 3) -> float32 (f, h, w) in [0, 1], 1 = near, on one scale for all frames."""
        pixels = self._pixels(frames)
        depth = steady(torch.cat([self._inverse_depth(part) for part in pixels.split(AT_ONCE)]), pixels)
        return scale_clip(depth[None, None], CUT)[0, 0].cpu().numpy()

    @torch.inference_mode()
    def estimate_each(self, frames: np.ndarray) -> np.ndarray:
        """As ``estimate``, but every frame for itself, from its minimum to its maximum: the published adapter's input.

        It flickers, and is here for parity.
        """
        video = rearrange(self._pixels(frames), "f c h w -> 1 c f h w")
        return scale_frames(estimate(self.network, video))[0, 0].cpu().numpy()

    def _pixels(self, frames: np.ndarray) -> Tensor:
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise ValueError(f"expected uint8 frames (f, h, w, 3), not {frames.dtype} {frames.shape}")
        pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "f h w c -> f c h w")
        return pixels.to(self.device).float() / 127.5 - 1

    def _inverse_depth(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w) -> (n, h, w), not scaled."""
        near = self.network.inverse_depth(self.network.prepare(pixels))
        return F.interpolate(near[:, None], pixels.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def estimator(name: str, device: str) -> DepthEstimator:
    """A ``DepthEstimator``, loaded once for each network and device, by whatever names."""
    return _loaded_once(catalogue.LEARNT_WITH.get(name, name), str(pick_device(device)))


@functools.cache
def _loaded_once(network: str, device: str) -> DepthEstimator:
    return DepthEstimator(network, device)


def load(name: str, path: Path | None = None) -> DepthNetwork:
    """The depth network called ``name``, from a file (Depth Anything: a folder) or from where weights are kept."""
    if not (network := catalogue.DEPTH_NETWORKS.get(name)):
        raise StoryError(f"there is no depth network named {name}", f"there are {', '.join(catalogue.DEPTH_NETWORKS)}")
    if not path:
        if absent := [file for file in network.paths if not file.is_file()]:
            raise StoryError(f"{absent[0]} is not there", f"storycli models pull {network.weights.name}")
        path = network.paths[0] if len(network.paths) == 1 else network.weights.folder
    return weights.load(path, DepthSmall, DepthSmallConfig) if name == "storybook" else weights.load_depth(path)


def steady(depth: Tensor, pixels: Tensor) -> Tensor:
    """Depth (f, h, w) averaged over frames where the picture (f, 3, h, w) stands still, untouched near what moves."""
    total, weight = depth.clone(), torch.ones_like(depth)
    around = 2 * (min(depth.shape[1:]) // AROUND) + 1
    for apart in range(1, min(REACH, len(depth) - 1) + 1):
        change = (pixels[apart:] - pixels[:-apart]).abs().mean(1, keepdim=True) / 2
        change = F.max_pool2d(change, around, stride=1, padding=around // 2)[:, 0]
        share = torch.exp(-((change / SAME_COLOUR) ** 2))
        total[:-apart] += share * depth[apart:]
        total[apart:] += share * depth[:-apart]
        weight[:-apart] += share
        weight[apart:] += share
    return total / weight


def behind(depth: np.ndarray) -> np.ndarray:
    """How near what is behind in each row is: depth (...,h,w) -> (...,h,1)."""
    return np.quantile(depth, BEHIND, axis=-1, keepdims=True)


def foreground(depth: np.ndarray) -> np.ndarray:
    """A rough mask of what stands before the ground and the scenery: depth (...,h,w) -> bool (...,h,w).

    It stands before what is behind it in its row; up to three quarters of the row may be its own.
    """
    return depth > behind(depth) + IN_FRONT


def figure(depth: np.ndarray) -> np.ndarray:
    """What a picture is of, as bool (h,w), by its depth (h,w) in [0, 1]: of all that is near, what has the middle."""
    height, width = depth.shape
    mask = cv2.morphologyEx(np.uint8(foreground(depth)), cv2.MORPH_OPEN, np.ones((5, 5)))
    # Rows that it fills have nothing behind it: they are its own if those above and below are.
    reach = height // 6
    mask = np.pad(mask, ((2 * reach, 2 * reach), (0, 0)))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((2 * reach + 1, 1)))[2 * reach : -2 * reach]
    count, parts = cv2.connectedComponents(mask)
    middle = np.outer(np.hanning(height), np.hanning(width))
    weights = [middle[parts == part].sum() for part in range(1, count)]
    return parts == 1 + np.argmax(weights) if weights else np.zeros(depth.shape, bool)
