"""Did the character take? Clips with and without it, side by side, and figures that say how much nearer they came."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models.video_model import VideoModel
from storycli.catalogue import Model
from storycli.characters.learn import Watch
from storycli.characters.personal import Personal, load_character
from storycli.characters.views import footage
from storycli.depth import DepthEstimator, estimator
from storycli.errors import StoryError
from storycli.judge import Judge, Scores
from storycli.media import filmstrip
from storycli.media.pictures import pictures, read
from storycli.render import Renderer, sample, to_frames
from storycli.retrieve import Library
from storycli.story import Character

SCENES = ("walking in a snowy forest", "dancing in a flower garden", "sitting on a tropical beach")
FRAMES = 8
GUIDES = 5  # of a scene, of which the first that can be read is taken
LEAST_GAIN = 0.02  # of cosine; less than this is within what another seed changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Mean cosines in the space of the judge's encoder, which training never sees; None where the judge is blind.

    ``identity``: frames to pictures of the character, background taken away; ``prompt``: clips to their prompts. The
    ``plain`` figures are those of the same clips with the class word alone.
    """

    identity: float | None
    plain_identity: float | None
    prompt: float | None
    plain_prompt: float | None
    sheet: Path

    @property
    def took(self) -> bool:
        """Whether the character shows, as far as anybody sees."""
        return self.identity is None or self.identity - self.plain_identity >= LEAST_GAIN


def prove(
    character: Character,
    weights: Path,
    model: Model,
    *,
    index: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Render a few scenes with the character and with its class word alone; writes ``preview.png`` in its folder.

    Clips of an ``index`` guide them; those of the built-in model, clips of the built-in library.
    """
    renderer, judge = Renderer(model.name, device), Judge(model.name, model.sampled, device)
    class_word = load_character(weights, model.name).class_word
    likenesses = [] if judge.blind else [judge.likeness(character.dir)]
    rows = {"pictures": np.stack([read(path, model.sampled[0])[0] for path in pictures(character.dir)])}
    found: dict[str, list[Scores]] = {"with": [], "without": []}
    for number, scene in enumerate(SCENES):
        depth = _guide(scene, model, judge.estimator, index)
        for kind, hero, cast in (
            ("with", f"{{{character.name}}}", {character.name: weights}),
            ("without", class_word, {}),
        ):
            frames = renderer.render(
                model.in_style(f"a {hero} {scene}"),
                depth,
                seed=seed + number,
                steps=model.steps,
                sampler=model.sampler,
                guidance=model.guidance,
                tau=model.tau,
                characters=cast,
            )
            found[kind].append(judge.scores(frames, depth, f"a {class_word} {scene}", likenesses))
            rows[f"{scene}, {kind} the character"] = frames
            if progress:
                progress(2 * number + (kind == "without") + 1, 2 * len(SCENES))
    sheet = character.dir / "preview.png"
    filmstrip.sheet(rows, sheet, columns=FRAMES)
    if judge.blind:
        return Proof(identity=None, plain_identity=None, prompt=None, plain_prompt=None, sheet=sheet)
    mean = {kind: np.mean([(scores.identity, scores.prompt) for scores in some], 0) for kind, some in found.items()}
    return Proof(
        identity=float(mean["with"][0]),
        plain_identity=float(mean["without"][0]),
        prompt=float(mean["with"][1]),
        plain_prompt=float(mean["without"][1]),
        sheet=sheet,
    )


def previews(character: Character, model: Model, every: int, device: str = "auto", index: Path | None = None) -> Watch:
    """Shows a training on its way: a clip every so many steps, below each other on ``preview-steps.png``."""
    depth = torch.from_numpy(_guide(SCENES[0], model, estimator(model.name, device), index))[None, None]
    rows: dict[str, np.ndarray] = {}

    def watch(step: int, network: VideoModel, now: Personal) -> None:
        if step % every == 0:
            how = {name: getattr(model, name) for name in ("steps", "sampler", "eta", "guidance", "tau")}
            latents = sample(
                network, model.in_style(f"a {{hero}} {SCENES[0]}"), depth, seed=0, cast={"hero": now}, **how
            )
            rows[f"after {step} steps"] = to_frames(replace(network, upscaler=None), latents)
            filmstrip.sheet(rows, character.dir / "preview-steps.png", columns=FRAMES)

    return watch


def _guide(scene: str, model: Model, estimator: DepthEstimator, index: Path | None) -> np.ndarray:
    """The depth (f,h,w) of a library clip of the scene; a built-in one where an index has none."""
    libraries = [None] if model.built_in or index is None else [index, None]
    found = (clip for folder in libraries for clip in Library(folder).search(f"an animal {scene}", GUIDES))
    _, frames = next(footage(found, num_frames=FRAMES, fps=model.fps, size=model.sampled))
    return estimator.estimate(frames)


def check(proof: Proof) -> None:
    """Raises StoryError when the character did not take."""
    if not proof.took:
        raise StoryError(
            f"the character was not learnt: its clips are no nearer to its pictures ({proof.identity:.3f}) than those"
            f" without it ({proof.plain_identity:.3f}); see {proof.sheet}",
            "try more or clearer pictures, another --class-word, or more --steps",
        )
