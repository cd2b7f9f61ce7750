"""Did the character take? Clips with and without it, side by side, and figures that say how much nearer they came."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from storycli import filmstrip, video
from storycli.catalogue import Model
from storycli.characters import load_character, near
from storycli.depth import DepthEstimator
from storycli.encoder import Encoder
from storycli.errors import StoryError
from storycli.pictures import pictures, read
from storycli.render import Renderer
from storycli.retrieve import Library
from storycli.story import Character

SCENES = ("walking in a snowy forest", "dancing in a flower garden", "sitting on a tropical beach")
FRAMES, STEPS = 8, 12
LEAST_GAIN = 0.02  # of cosine; less than this is within what another seed changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Mean cosines in the space of the retrieval encoder, which training never sees.

    ``identity``: frames to pictures of the character, background taken away; ``prompt``: clips to their prompts. The
    ``plain`` figures are those of the same clips with the class word alone.
    """

    identity: float
    plain_identity: float
    prompt: float
    plain_prompt: float
    sheet: Path

    @property
    def took(self) -> bool:
        """Whether the character shows."""
        return self.identity - self.plain_identity >= LEAST_GAIN


def prove(
    character: Character,
    weights: Path,
    model: Model,
    *,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Proof:
    """Render a few scenes with the character and with its class word alone; writes ``preview.png`` in its folder."""
    renderer, estimator, encoder = Renderer(model.name, device), DepthEstimator(model.name, device), Encoder()
    size = model.size[0] // model.upscale, model.size[1] // model.upscale
    class_word = load_character(weights, model.name).class_word
    shown = [read(path, size[0]) for path in pictures(character.dir)]
    likeness = encoder.embed_clips([_alone(pixels[None], estimator, opacity)[0] for pixels, opacity in shown])

    rows = {"pictures": np.stack([pixels for pixels, _ in shown])}
    identity, prompts = {"with": [], "without": []}, {"with": [], "without": []}
    for number, scene in enumerate(SCENES):
        clip = Library(None).search(f"an animal {scene}", 1)[0].clip
        guide = video.read(clip.path, start=clip.start, end=clip.end, num_frames=FRAMES, fps=model.fps, size=size)
        depth = estimator.estimate(guide)
        sentence = encoder.embed_text([f"a {class_word} {scene}"])[0]
        for kind, hero, cast in (
            ("with", f"{{{character.name}}}", {character.name: weights}),
            ("without", class_word, {}),
        ):
            frames = renderer.render(
                f"a {hero} {scene}, storybook style",
                depth,
                seed=seed + number,
                steps=STEPS,
                sampler=model.sampler,
                guidance=model.guidance,
                tau=model.tau,
                characters=cast,
            )
            faces = encoder.embed_clips(_alone(frames, estimator))
            identity[kind].append(float((faces @ likeness.T).mean()))
            chosen = frames[encoder.sample(0, len(frames))]
            prompts[kind].append(float(encoder.embed_clips([chosen])[0] @ sentence))
            rows[f"{scene}, {kind} the character"] = frames
            if progress:
                progress(2 * number + (kind == "without") + 1, 2 * len(SCENES))
    sheet = character.dir / "preview.png"
    filmstrip.sheet(rows, sheet, columns=FRAMES)
    return Proof(
        identity=float(np.mean(identity["with"])),
        plain_identity=float(np.mean(identity["without"])),
        prompt=float(np.mean(prompts["with"])),
        plain_prompt=float(np.mean(prompts["without"])),
        sheet=sheet,
    )


def check(proof: Proof) -> None:
    """Raises StoryError when the character did not take."""
    if not proof.took:
        raise StoryError(
            f"the character was not learnt: its clips are no nearer to its pictures ({proof.identity:.3f}) than those"
            f" without it ({proof.plain_identity:.3f}); see {proof.sheet}",
            "try more or clearer pictures, another --class-word, or more --steps",
        )


def _alone(frames: np.ndarray, estimator: DepthEstimator, opacity: np.ndarray | None = None) -> list[np.ndarray]:
    """Each frame uint8 (f,h,w,3) as a clip of its own (1,h,w,3), what lies behind the character made white."""
    kept = [opacity > 0.5] if opacity is not None else [near(depth) for depth in estimator.estimate(frames)]
    return [
        np.where(mask[..., None], frame, 255).astype(np.uint8)[None] for frame, mask in zip(frames, kept, strict=True)
    ]
