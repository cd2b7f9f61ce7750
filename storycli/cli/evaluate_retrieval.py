"""``evaluate-retrieval``: how well sentences find clips."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer, screen


def evaluate_retrieval(
    output: Annotated[
        Path, Option("--output", "-o", metavar="DIR", help="Where clips and index go; a stopped run goes on from it.")
    ] = Path("retrieval"),
    assets: Annotated[
        Path | None, Option(metavar="DIR", help="The storybook world's pictures; fetched when not there.")
    ] = None,
    count: Annotated[int, Option(min=10, metavar="N", help="How many clips.")] = 1000,
    encoder: Annotated[Path | None, Option(metavar="WEIGHTS", help="Another network than the built-in one.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how well sentences find clips that training never saw (the table of Frozen in Time).

    Recall at 1, 5 and 10 in percent and the median rank, by the picture alone and with captions.
    """
    from storycli.evaluate import retrieval as evaluate_retrieval
    from storycli.world.generator import assets_in

    assets = assets_in(output, assets)
    with screen.progress() as report:
        rows = evaluate_retrieval.table(assets, count, output, weights=encoder, progress=report.of)
    answer([asdict(row) for row in rows] if json else evaluate_retrieval.as_text(rows))
