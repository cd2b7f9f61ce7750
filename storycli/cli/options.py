"""The flags that commands share. One entry of ``SETTINGS`` is one field of ``config.Settings``."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from storycli.cli.screen import screen

STORY, LOOK, CUT, MODEL = "The story", "The look", "The cut", "The model"


def _quiet(value: bool) -> bool:
    screen.quiet = screen.quiet or value
    return value


def _verbose(value: bool) -> bool:
    screen.verbose = screen.verbose or value
    screen.logging()
    return value


Quiet = Annotated[bool, Option("--quiet", "-q", callback=_quiet, help="Say nothing but results, warnings and errors.")]
Verbose = Annotated[
    bool, Option("--verbose", "-v", callback=_verbose, help="Say more; errors come with their traceback.")
]
Json = Annotated[bool, Option("--json", help="Print the answer as JSON.")]
DryRun = Annotated[bool, Option("--dry-run", help="Tell plots, time, memory and disk; film nothing.")]
Film = Annotated[Path, Option("--output", "-o", metavar="FILM", help="Where the film goes.")]
Script = Annotated[str, Argument(metavar="STORY", help="A .txt or .md script, - for stdin, or a storyboard .yaml.")]
Cast = Annotated[
    list[str] | None,
    Option(
        "--character",
        "-c",
        metavar="[NAME=]DIR",
        rich_help_panel=STORY,
        help="A folder with pictures of a character; repeat it.",
    ),
]

Workers = Annotated[
    int | None, Option(min=1, metavar="N", rich_help_panel=MODEL, help="Processes at work, in place of one a core.")
]
Ray = Annotated[
    bool,
    Option(
        "--ray",
        rich_help_panel=MODEL,
        help="Have a Ray cluster do the work: the one of $RAY_ADDRESS, or workers on this machine.",
    ),
]
ModelName = Annotated[
    Literal["auto", "storybook", "lvdm"] | None,
    Option(rich_help_panel=MODEL, help="Which video model; auto takes the best that is here."),
]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"] | None, Option(rich_help_panel=MODEL, help="Where it runs.")]
Index = Annotated[
    Path | None,
    Option(metavar="DIR", rich_help_panel=STORY, help="The clip library that motion is taken from."),
]

SETTINGS = {
    "llm": Annotated[
        Literal["auto", "openai", "offline", "none"] | None,
        Option(
            rich_help_panel=STORY,
            help="Who tells the plots: a language model, the offline parser, or you (none: one plot a line).",
        ),
    ],
    "llm_model": Annotated[
        str | None, Option(metavar="NAME", rich_help_panel=STORY, help="The language model to ask for.")
    ],
    "index": Index,
    "candidates": Annotated[
        int | None, Option(metavar="N", rich_help_panel=STORY, help="Clips to look up for each plot.")
    ],
    "seed": Annotated[int | None, Option(metavar="N", rich_help_panel=LOOK, help="Another number, another film.")],
    "sampler": Annotated[
        Literal["sde", "dpm", "ddim"] | None,
        Option(rich_help_panel=LOOK, help="sde adds fresh noise at every step; dpm and the slow ddim do not."),
    ],
    "steps": Annotated[int | None, Option(metavar="N", rich_help_panel=LOOK, help="Denoising steps for each clip.")],
    "guidance": Annotated[
        float | None,
        Option(metavar="X", rich_help_panel=LOOK, help="How closely pictures follow the prompt."),
    ],
    "tau": Annotated[
        str | None,
        Option(
            metavar="0..1|auto",
            rich_help_panel=LOOK,
            help="When the clip's depth lets go: 0 keeps it to the end, 1 ignores it; auto tries a few for each plot.",
        ),
    ],
    "retries": Annotated[
        int | None,
        Option(
            metavar="N",
            rich_help_panel=LOOK,
            help="Render a clip that does not show its character, or its guide's motion, up to N times more.",
        ),
    ],
    "negative": Annotated[
        str | None, Option(metavar="TEXT", rich_help_panel=LOOK, help="What pictures should not show.")
    ],
    "frames": Annotated[int | None, Option(metavar="N", rich_help_panel=LOOK, help="Frames in each clip.")],
    "fps": Annotated[float | None, Option(metavar="X", rich_help_panel=LOOK, help="Frames a second.")],
    "smooth": Annotated[
        int | None,
        Option(metavar="N", rich_help_panel=LOOK, help="Draw in-betweens: 3 makes 24 frames a second out of 8."),
    ],
    "size": Annotated[
        str | None, Option(metavar="WxH", rich_help_panel=LOOK, help="Size of the film, such as 512x512.")
    ],
    "depth": Annotated[
        Literal["storybook", "dpt_hybrid", "depth_anything_v2_small"] | None,
        Option(rich_help_panel=MODEL, help="Which network sees a clip's depth; otherwise the one of the video model."),
    ],
    "title_card": Annotated[
        bool | None, Option("--title-card/--no-title-card", rich_help_panel=CUT, help="Begin with the title.")
    ],
    "subtitles": Annotated[
        Literal["none", "soft", "burn", "srt"] | None,
        Option(
            rich_help_panel=CUT,
            help="Show the plots' text: to be switched on, drawn in, or in a file beside.",
        ),
    ],
    "narrate": Annotated[
        bool | None, Option("--narrate/--no-narrate", rich_help_panel=CUT, help="Have the plots read aloud.")
    ],
    "voice": Annotated[Literal["offline", "openai"] | None, Option(rich_help_panel=CUT, help="Who reads.")],
    "tts_model": Annotated[
        str | None, Option(metavar="NAME", rich_help_panel=CUT, help="The speech model to ask for.")
    ],
    "music": Annotated[Path | None, Option(metavar="SOUND", rich_help_panel=CUT, help="Music under the film.")],
    "aspect": Annotated[
        Literal["clip", "1:1", "16:9", "9:16"] | None,
        Option(rich_help_panel=CUT, help="Proportions of the film."),
    ],
    "transition": Annotated[
        Literal["cut", "crossfade"] | None,
        Option(rich_help_panel=CUT, help="How one clip becomes the next."),
    ],
    "model": ModelName,
    "device": Device,
    "compile": Annotated[
        bool | None,
        Option(
            "--compile/--no-compile",
            rich_help_panel=MODEL,
            help="Compile the model first: minutes once, then quicker steps.",
        ),
    ],
}


def gathering(into: str, flags: Mapping[str, tuple[Any, Any]], build: Callable[..., Any] = dict) -> Callable:
    """Give ``command(..., into)`` flags, each an annotation and a default, and call it with ``build(**flags)``."""

    def wrapped(command: Callable) -> Callable:
        def run(**given: Any) -> Any:
            gathered = {name: given.pop(name) for name in flags}
            return command(**given, **{into: build(**gathered)})

        own = [p for p in inspect.signature(command).parameters.values() if p.name != into]
        only = inspect.Parameter.KEYWORD_ONLY
        parameters = [p.replace(kind=only) for p in own]
        parameters += [inspect.Parameter(n, only, default=d, annotation=a) for n, (a, d) in flags.items()]
        run.__signature__ = inspect.Signature(parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return wrapped


def _in_force(**flags: Any) -> Any:
    from storycli import config

    return config.load(flags)


FLAGS = {name: (flag, None) for name, flag in SETTINGS.items()}
with_settings = gathering("settings", FLAGS, _in_force)
"""Give ``command(..., settings)`` a flag for each setting, and call it with the ``Settings`` in force."""
with_changes = gathering("changes", FLAGS)
"""Give ``command(..., changes)`` a flag for each setting, and call it with what they say; None for those not given."""
