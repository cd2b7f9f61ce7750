"""``evaluate-training``: the held-out loss as training goes on, and with each of its choices made otherwise."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer, screen
from storycli.errors import UsageError


def evaluate_training(
    weights: Annotated[
        list[Path] | None,
        Argument(metavar="DIR...", help="Checkpoints: folders with unet.safetensors and structure.safetensors."),
    ] = None,
    held: Annotated[
        Path, Option(metavar="DIR", help="Shards that training has not seen; drawn when they are not there.")
    ] = Path("held"),
    assets: Annotated[
        Path | None, Option(metavar="DIR", help="The storybook world's pictures; fetched when not there.")
    ] = None,
    data: Annotated[
        Path | None, Option(metavar="DIR", help="Shards to try the choices of training on, from nothing.")
    ] = None,
    output: Annotated[Path, Option("--output", "-o", metavar="DIR", help="Where those trials go.")] = Path("ablation"),
    still_frames: Annotated[int, Option(min=0, metavar="N", help="Pictures that each of them sees.")] = 8_000,
    clip_frames: Annotated[int, Option(min=0, metavar="N", help="Frames of video that each of them sees.")] = 4_000,
    ahead: Annotated[
        list[int] | None, Option(metavar="N", help="Frames to extrapolate the learning curve to; repeat it.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure what training is worth: the learning curve of checkpoints, or with --data the choices of training.

    Losses are those of scenes that training never drew, with the same noise for all.
    """
    if not (weights or data):
        raise UsageError("there is nothing to measure", "give checkpoints, or the shards to try choices on: --data DIR")
    if ahead and not weights:
        raise UsageError("--ahead goes on from checkpoints, and none are given", "give some")
    from storycli.evaluate import clips, losses
    from storycli.training import video as train_video
    from storycli.training.dataset import prepare_world
    from storycli.world.generator import assets_in

    how = dict(tier="core", stills=512, clips=64, first_seed=clips.UNSEEN)
    for _ in prepare_world(held, assets_in(held, assets), train_video.AUTOENCODER, **how):
        screen.say("drew a shard of held-out scenes")
    found = {}
    if data:
        found["choices"] = losses.ablation(data, held, output, still_frames=still_frames, clip_frames=clip_frames)
    if weights:
        found["curve"] = losses.curve(weights, held)
    if ahead:
        found["ahead"] = losses.extrapolated(found["curve"], ahead)
    if json:
        return answer({name: {key: asdict(point) for key, point in rows.items()} for name, rows in found.items()})
    answer("\n\n".join(losses.as_text(rows) for rows in found.values()))
