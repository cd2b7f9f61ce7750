"""``doctor``: is everything here that a film needs?"""

from dataclasses import asdict

from typer import Exit

from storycli.cli.options import Json, Quiet, Verbose
from storycli.cli.screen import answer


def doctor(json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Look at ffmpeg, device, memory, weights, clips and language model; say how to mend what is not well."""
    from storycli.doctor import checks

    found = checks()
    if json:
        answer([asdict(check) for check in found])
    else:
        for check in found:
            answer(f"{'ok  ' if check.well else 'MEND'} {check.name + ':':9} {check.found}")
            if check.fix:
                answer(f"{'':15}{check.fix}")
    if not all(check.well for check in found):
        raise Exit(1)
