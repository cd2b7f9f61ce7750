"""``evaluate-characters``: the paper's Table 2 and Figs. 5 to 7, on characters of the storybook world."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from typer import Option

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer, screen


def evaluate_characters(
    output: Annotated[
        Path, Option("--output", "-o", metavar="DIR", help="Where everything is kept; a stopped run goes on from it.")
    ] = Path("characters"),
    assets: Annotated[
        Path | None, Option(metavar="DIR", help="The storybook world's pictures; fetched when not there.")
    ] = None,
    characters: Annotated[int, Option(min=1, max=10, metavar="N", help="How many held-out characters.")] = 8,
    scenes: Annotated[int, Option(min=2, max=12, metavar="N", help="Scenes that each of them plays.")] = 10,
    seeds: Annotated[int, Option(min=1, metavar="N", help="Times that it plays each, with other noise.")] = 4,
    train_steps: Annotated[int, Option(min=1, metavar="N", help="Training steps, the same for all methods.")] = 200,
    steps: Annotated[int, Option(min=1, metavar="N", help="Denoising steps.")] = 12,
    frames: Annotated[int, Option(min=2, max=16, metavar="N", help="Frames of each clip.")] = 4,
    ablation: Annotated[
        bool, Option("--ablation/--no-ablation", help="Also take the paper's method apart, as its Fig. 8 does.")
    ] = True,
    pairs: Annotated[
        bool, Option("--pairs/--no-pairs", help="Also have them play in twos, kept apart and not.")
    ] = True,
    figures: Annotated[bool, Option("--figures/--no-figures", help="Draw Figs. 5 to 7, too.")] = True,
    seed: Annotated[int, Option(min=0, metavar="N", help="Another number, other noise.")] = 0,
    workers: Annotated[int, Option(min=1, metavar="N", help="Processes, of one thread each.")] = 1,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure the paper's method against its rivals on characters that training never saw (Table 2, Figs. 5 to 7).

    Every method learns the same pictures for as many steps, and every character plays the same scenes with the same
    noise. Two networks that know every character judge them, and are trained first.
    """
    from storycli.evaluate import characters as evaluate_characters
    from storycli.evaluate import together, trial
    from storycli.world.generator import assets_in

    assets = assets_in(output, assets)
    study = trial.Study(
        assets=assets,
        characters=evaluate_characters.held_out(assets, characters),
        methods=(*trial.RIVALS, trial.OURS, *(trial.TAKEN_APART if ablation else ())),
        scenes=scenes,
        seeds=seeds,
        train_steps=train_steps,
        steps=steps,
        frames=frames,
        seed=seed,
    )
    with screen.progress() as report:

        def tell(stage: str, done: int, total: int) -> None:
            report(stage, "", done, total)

        found = evaluate_characters.run(study, output, workers=workers, report=tell)
        twos = together.table(study, output, workers=workers) if pairs and characters > 1 else []
        drawn = evaluate_characters.figures(study, output, found, tell) if figures else []
    rows = evaluate_characters.table(found)
    sheets = [str(path) for path in drawn]
    if json:
        answer({"rows": [asdict(row) for row in rows], "pairs": [asdict(row) for row in twos], "sheets": sheets})
    else:
        told = [
            evaluate_characters.as_text(rows, study),
            *([together.as_text(twos)] if twos else []),
            "\n".join(sheets),
        ]
        answer("\n\n".join(told).strip())
