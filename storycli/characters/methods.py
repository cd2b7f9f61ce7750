"""How a character is learnt: the paper's method and those it is measured against, one step at a time.

All of them train by the same loss on the same pictures, and differ in what they train (``METHODS``).
"""

import logging
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from models.personal import (
    LowRank,
    TimeInv,
    add_branches,
    branch_tensors,
    convolutions,
    projections,
    text_with_word,
    word_start,
)
from models.sampler import clip_noise
from models.schedule import min_snr_weight, q_sample, v_from_eps
from models.unet import VideoUNet
from models.video_model import VideoModel
from storycli.characters.views import WORD, Views

log = logging.getLogger(__name__)


class Rates(NamedTuple):
    """How fast a method learns; what it does not learn has 0."""

    word: float = 0
    text: float = 0  # cross-attention
    rest: float = 0  # self-attention, and whatever else of the U-Net it trains
    convolutions: float = 0  # 3x3, of the residual blocks


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """What a way of personalising trains, and how fast."""

    varies: bool = False  # the word has an embedding for each diffusion time (TimeInv), not one for all
    weights: str = "none"  # of the U-Net: none; low-rank branches; keys and values of the cross-attention; or all
    rates: Rates  # that suit the built-in model
    paper: Rates  # that the paper gives


# What self-attention learns from stills, it spoils in motion, so it learns little. The paper's branches are on
# attention alone. The built-in model, which has no self-attention where it draws faces, cannot draw a new one by them:
# a quarter more of the loss remains than with branches on its convolutions, too. At Custom Diffusion's rate, they would
# move keys and values less than half as far as it does.
LOW_RANK = {
    "weights": "low-rank",
    "rates": Rates(word=5e-3, text=3e-3, rest=1e-4, convolutions=3e-3),
    "paper": Rates(word=1e-4, text=1e-4, rest=1e-4),
}
ATTENTION = LOW_RANK | {"rates": LOW_RANK["rates"]._replace(convolutions=0)}
CUSTOM = {"weights": "text", "rates": Rates(word=5e-3, text=1e-3), "paper": Rates(word=1e-5, text=1e-5)}
WORD_ONLY = {"rates": Rates(word=5e-3), "paper": Rates(word=1e-4)}
EVERYTHING = {"weights": "all", "rates": Rates(0, 2e-4, 2e-4, 2e-4), "paper": Rates(0, 1e-5, 1e-5, 1e-5)}
METHODS = {
    "timeinv": Method(varies=True, **LOW_RANK),  # the paper's, and branches on convolutions
    "textual-inversion": Method(**WORD_ONLY),  # Gal et al. 2022
    "dreambooth": Method(**EVERYTHING),  # Ruiz et al. 2023: a fixed word
    "custom-diffusion": Method(**CUSTOM),  # Kumari et al. 2023
    # Taken apart, as in the paper's ablation and its Fig. 8:
    "timeinv-alone": Method(varies=True, **WORD_ONLY),
    "timeinv-attention": Method(varies=True, **ATTENTION),  # the paper's branches
    "low-rank": Method(**LOW_RANK),
    "custom-timeinv": Method(varies=True, **CUSTOM),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacterConfig:
    """How a character is learnt. Defaults suit the built-in model; ``LVDM`` is the paper's."""

    method: str = "timeinv"
    steps: int = 200
    batch: int = 8  # pictures of the character in a step
    class_batch: int = 2  # pictures of others in a step, so that their words keep their meaning
    views: int = 16  # augmented views of each picture
    frames: int = 1  # a picture is shown as a clip of so many, all alike
    rows: int = 10  # rows of the TimeInv table; each serves 1000 / rows neighbouring times
    shared: bool = True  # what the word learns at one time it learns at all, and more so at its own
    rank: int = 32
    drop_structure: float = 0.3
    snr_limit: float = 5.0
    patience: int = 0  # stop when so many looks in a row, one in every 25 steps, saw no progress; 0: never
    checkpointing: bool = False  # compute the U-Net's activations twice and keep few: slower, far less memory
    paper_rates: bool = False
    seed: int = 0


# One clip at a time and activations computed twice, to fit a GPU of 16 GB; with 8 frames they take half the room.
LVDM = CharacterConfig(
    steps=1000,
    batch=1,
    class_batch=1,
    frames=16,
    rows=1000,
    shared=False,
    rank=8,
    checkpointing=True,
    paper_rates=True,
)
BACKGROUND = 0.5  # how much it counts, beside the character's 1
LOOK = 25  # steps
PROGRESS = 0.002  # the least fall of the loss, as a share of it, that counts


def config_for(model: str, **wishes: Any) -> CharacterConfig:
    """What suits a video model, but for the ``wishes``."""
    return replace(LVDM if model == "lvdm" else CharacterConfig(), **wishes)


def rates_of(config: CharacterConfig) -> Rates:
    """How fast a training learns."""
    method = METHODS[config.method]
    return method.paper if config.paper_rates else method.rates


@dataclass(kw_only=True, slots=True)
class Pupil:
    """What learns, and how far it is."""

    word: TimeInv
    learnt: dict[str, torch.nn.Parameter]  # of the U-Net
    before: dict[str, Tensor]  # the same as it began
    branches: dict[str, LowRank]
    optimizer: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of the same pictures and noise, at every look

    @classmethod
    def begin(cls, model: VideoModel, class_word: str, config: CharacterConfig) -> "Pupil":
        method = METHODS[config.method]
        rows = config.rows if method.varies else 1
        word = TimeInv(word_start(model.text, class_word).cpu(), rows).to(model.device)
        rates = rates_of(config)
        layers = projections(model.unet) + (convolutions(model.unet) if rates.convolutions else [])
        branches = add_branches(model.unet, layers, config.rank) if method.weights == "low-rank" else {}
        learnt = trainable(model.unet, method.weights)
        if config.shared and rows > 1:
            word.table.register_hook(lambda gradient: gradient + gradient.sum(0))
        groups = {kind: [] for kind in Rates._fields} | {"word": [word.table]}
        drawing = tuple(convolutions(model.unet))
        for name, parameter in learnt.items():
            kind = "text" if ".attn2." in name else "convolutions" if name.startswith(drawing) else "rest"
            groups[kind].append(parameter)
        optimizer = torch.optim.AdamW(
            [{"params": group} for group in groups.values()], betas=(0.9, 0.99), weight_decay=0
        )
        before = {name: parameter.detach().clone() for name, parameter in learnt.items()}
        return cls(word=word, learnt=learnt, before=before, branches=branches, optimizer=optimizer)

    def learn(self, loss: Tensor, config: CharacterConfig) -> None:
        """One step: 20 to warm up, and over the second half down to nothing."""
        pace = min(1.0, (self.step + 1) / 20) * min(1.0, 2 * (1 - self.step / config.steps))
        for group, rate in zip(self.optimizer.param_groups, rates_of(config), strict=True):
            group["lr"] = rate * pace
        loss.backward()
        torch.nn.utils.clip_grad_norm_([self.word.table, *self.learnt.values()], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def look(self, loss: Tensor) -> None:
        self.losses.append(loss.item())

    def tired(self, config: CharacterConfig) -> bool:
        """Whether the last ``patience`` looks were no better than the best before them."""
        if not config.patience or len(self.losses) <= config.patience:
            return False
        before, lately = self.losses[: -config.patience], self.losses[-config.patience :]
        return min(lately) > min(before) * (1 - PROGRESS)

    def weights(self) -> dict[str, Tensor]:
        """What it has changed in the U-Net."""
        if self.branches:
            return {name: tensor.half() for name, tensor in branch_tensors(self.branches).items()}
        return {name: parameter.detach().half() for name, parameter in self.learnt.items()}

    def save(self, path: Path, header: dict[str, str]) -> None:
        state = {
            "header": header,
            "word": self.word.table.data,
            "learnt": {name: parameter.data for name, parameter in self.learnt.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        partial = path.with_name(f"{path.name}.part")
        torch.save(state, partial)
        os.replace(partial, path)

    def resume(self, path: Path, header: dict[str, str]) -> None:
        """Go on from a checkpoint, if there is one of this very training."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a damaged file
            log.warning("%s cannot be read (%s); the training starts anew", path, type(error).__name__)
            return
        if state["header"] != header:
            log.info("%s is of another training; this one starts anew", path)
            return
        self.word.table.data.copy_(state["word"])
        for name, parameter in self.learnt.items():
            parameter.data.copy_(state["learnt"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.losses = state["step"], state["losses"]


def without_gaps(table: Tensor, start: Tensor) -> Tensor:
    """The rows of a TimeInv table (rows, d), those that learnt nothing and still are ``start`` (d,) filled in.

    They lie on a line between the nearest rows that learnt; beyond the first and the last they are like those. One clip
    at a time, 1000 steps leave 37 % of the paper's 1000 rows undrawn, between which the word would change to and fro.
    """
    learnt = (table != start).any(1).nonzero()[:, 0]
    if len(learnt) in (0, len(table)):
        return table
    rows = torch.arange(len(table))
    after = learnt[torch.searchsorted(learnt, rows).clamp(max=len(learnt) - 1)]
    before = learnt[(torch.searchsorted(learnt, rows, right=True) - 1).clamp(min=0)]
    share = (rows - before) / (after - before).clamp(min=1)
    return torch.lerp(table[before], table[after], share[:, None])


def trainable(unet: VideoUNet, weights: str) -> dict[str, torch.nn.Parameter]:
    """The parameters of a frozen U-Net, with branches where the method has them, that it trains; unfreezes them."""
    wanted = {
        "none": lambda name: False,
        "low-rank": lambda name: name.endswith((".up.weight", ".down.weight")),
        "text": lambda name: name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")),
        "all": lambda name: True,
    }[weights]
    chosen = {name: parameter for name, parameter in unet.named_parameters() if wanted(name)}
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def personal_loss(
    model: VideoModel,
    pupil: Pupil,
    shown: Views,
    others: Views | None,
    config: CharacterConfig,
    generator: torch.Generator,
) -> Tensor:
    """The diffusion loss on pictures of the character, with its word, and of others, which have their context.

    Around the character, the network is held to what it would have drawn before it learnt anything (Li & Hoiem 2016),
    so that the pictures' backgrounds do not come with the word.
    """
    device, n = pupil.word.table.device, config.batch

    def pick(views: Views, count: int) -> Views:
        rows = torch.randint(len(views.prompts), (count,), generator=generator).tolist()
        return views.pick(rows, config.frames)

    parts = [pick(shown, n)] + ([pick(others, config.class_batch)] if others else [])
    x0, depth, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("latents", "depth", "mask"))
    t = torch.randint(len(model.alpha_bar), (len(x0),), generator=generator)
    noise = clip_noise(x0.shape, model.shared_noise, generator)
    x_t = q_sample(x0, t, noise, model.alpha_bar)
    target = v_from_eps(noise, x0, t, model.alpha_bar) if model.predicts == "v" else noise
    weight = min_snr_weight(x0, t, model.alpha_bar, config.snr_limit, model.predicts)
    weight = weight * (BACKGROUND + (1 - BACKGROUND) * mask)
    kept = (torch.rand(len(x0), generator=generator) >= config.drop_structure).float()

    weight = weight / weight.mean()
    x_t, target, weight, t, depth, mask, kept = (v.to(device) for v in (x_t, target, weight, t, depth, mask, kept))
    with torch.no_grad():
        features = [f * kept[:, None, None, None, None] for f in model.structure(2 * depth - 1)]
        own = (x_t[:n], t[:n], parts[0].context, [f[:n] for f in features], parts[0].words)
        before = functional_call(model.unet, pupil.before, own).float()
        target[:n] = torch.lerp(before, target[:n], mask[:n])
    context, words = text_with_word(model.text, parts[0].prompts, WORD, pupil.word(t[:n]))
    if others:
        context = torch.cat([context, parts[1].context])
        words = None if words is None else torch.cat([words, parts[1].words])
    predicted = model.unet(x_t, t, context, features, words).float()
    return ((predicted - target).square() * weight).mean()
