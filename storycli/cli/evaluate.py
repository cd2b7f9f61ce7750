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
        Argument(metavar="CLIPS...", help="Captioned clips: folders, files or a CSV table; half of them guide."),
    ] = None,
    assets: Annotated[
        Path | None, Option(metavar="DIR", help="Instead of clips, unseen scenes drawn from these pictures.")
    ] = None,
    count: Annotated[int, Option(min=8, metavar="N", help="How many captions to render.")] = 512,
    real: Annotated[int, Option(min=8, metavar="N", help="How many other scenes to compare with.")] = 2048,
    output: Annotated[
        Path, Option("--output", "-o", metavar="DIR", help="Where the page, its pictures and the work go.")
    ] = Path("evaluation"),
    table_only: Annotated[bool, Option("--table-only", help="Leave out sweeps, blind sheet and unseen words.")] = False,
    steps: Annotated[int | None, Option(min=1, metavar="N", help="Denoising steps for each clip.")] = None,
    workers: Annotated[int, Option(min=1, metavar="N", help="Processes that render, one to a core.")] = 1,
    model: ModelName = None,
    seed: Annotated[int, Option(min=0, metavar="N", help="Another number, other noise.")] = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure what structure adds to text, as in the paper's Table 1, and what the dials do.

    Every clip's caption is rendered from text alone, with the clip's depth, and with depth let go early. Without CLIPS
    and pictures the built-in library is used. A run that was stopped goes on from what is in the folder.
    """
    from storycli import catalogue, config
    from storycli.errors import UsageError
    from storycli.evaluate import clips as sets
    from storycli.evaluate import page

    if clips and assets:
        raise UsageError("--assets draws scenes in place of CLIPS", "give one of the two")
    settings = config.load({"model": model, "device": device})
    chosen = catalogue.choose(settings.model, settings.device)
    if assets:
        guides, others = sets.unseen(assets, count, real)
    else:
        guides, others = sets.captioned(clips or [config.EXAMPLES / "clips.csv"], chosen, count, seed)
    with screen.progress() as report:
        wanted = page.Evaluation(
            model=chosen,
            guides=guides,
            real=others,
            steps=steps or chosen.steps,
            folder=output,
            seed=seed,
            workers=workers,
            device=settings.device,
            report=report.of,
        )
        found = page.table(wanted) if table_only else page.page(wanted)
    if not table_only:
        answer({"page": str(found)} if json else str(found))
    else:
        answer([asdict(row) for row in found] if json else page.as_text(found))
