"""``evaluate``: the paper's measurements of a model on given clips."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from storycli.cli.options import Device, Json, ModelName, Quiet, Verbose
from storycli.cli.screen import answer, screen


def evaluate(
    clips: Annotated[
        list[Path] | None,
        Argument(metavar="CLIPS...", help="Captioned clips: folders, files or a CSV table."),
    ] = None,
    count: Annotated[
        int, Option(min=8, metavar="N", help="How many of them; half guide, half are compared with.")
    ] = 64,
    assets: Annotated[
        Path | None, Option(metavar="DIR", help="Instead of clips, unseen scenes drawn from these pictures.")
    ] = None,
    model: ModelName = None,
    seed: Annotated[int, Option(min=0, metavar="N", help="Another number, other noise.")] = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure what structure adds to text, as in the paper's Table 1.

    Every clip's caption is rendered from text alone, with the clip's depth, and with depth dropped early. Without CLIPS
    the built-in library is used.
    """
    from storycli import catalogue, config, evaluate

    settings = config.load({"model": model, "device": device})
    chosen = catalogue.choose(settings.model, settings.device)
    if assets and not clips:
        samples = list(evaluate.unseen(assets, count))
    else:
        samples = evaluate.captioned(clips or [config.EXAMPLES / "clips.csv"], chosen, count, seed)
    with screen.progress() as report:
        rows = evaluate.table(
            chosen,
            samples,
            device=settings.device,
            seed=seed,
            progress=lambda n, of: report("evaluate", "", n, of),
        )
    answer([asdict(row) for row in rows] if json else evaluate.as_text(rows))
