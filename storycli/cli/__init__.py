"""The command line: every command, and the one edge where an error becomes a line and an exit code.

Nothing here is imported that ``--help`` does not need: each command imports the stages it runs.
"""

import errno
import os
import signal
import sys

import typer
from typer.core import TyperGroup

from storycli.cli import (
    doctor,
    evaluate,
    evaluate_characters,
    evaluate_retrieval,
    evaluate_training,
    film,
    library,
    models,
    training,
)
from storycli.cli.screen import screen
from storycli.errors import StoryError

FREE_SOME = "free some space, then run it again"
FULL = {errno.ENOSPC, errno.EDQUOT}
MENDABLE = FULL | {
    errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP,
}  # fmt: skip
KEEP = {  # what they have done when they are stopped
    "render", "again", "demo", "index", "train-character", "train-base", "train-structure",
    "train-autoencoder", "train-decoder", "train-depth", "train-retrieval", "evaluate", "evaluate-characters",
    "evaluate-retrieval", "evaluate-training", "models pull",
}  # fmt: skip
ONLY_TELL = {"--dry-run", "--plan", "--status"}  # what they would do, or have done


class StoryGroup(TyperGroup):
    """Tells what a person can mend in one message with its exit code; bugs keep their traceback."""

    def resolve_command(self, ctx, args):
        ctx.meta["words"] = args
        return super().resolve_command(ctx, args)

    def invoke(self, ctx):
        # a polite kill ends as Ctrl-C does
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except StoryError as error:
            screen.fail(error.message, error.hint)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            kept = _keeps(ctx.meta.get("words", []))
            screen.fail("interrupted", "the work so far is kept: the same command goes on from here" if kept else "")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:  # the reader of our output left early, as `head` does
            sys.stdout = None
            raise typer.Exit(0) from error
        except Exception as error:
            if not (refused := _refused_by_disk(error) or _refused_by_torch(error)):
                raise
            screen.fail(*refused)
            raise typer.Exit(1) from error
        finally:
            signal.signal(signal.SIGTERM, before)


def _refused_by_disk(error: Exception) -> tuple[str, str] | None:
    """What the disk did not do, and what helps, where that is what an error is about."""
    if isinstance(error, OSError) and error.errno in MENDABLE:
        what = f"{error.filename or 'the disk'}: {error.strerror}"
        return what, FREE_SOME if error.errno in FULL else "choose another file or folder"
    full = os.strerror(errno.ENOSPC)  # Lance and safetensors raise errors of their own, with the system's words in them
    return (f"the disk: {full}", FREE_SOME) if full in str(error) else None


def _refused_by_torch(error: Exception) -> tuple[str, str] | None:
    """The same of a GPU whose memory is full, or of a model that cannot be compiled here."""
    if (torch := sys.modules.get("torch")) and isinstance(error, torch.OutOfMemoryError):
        return "the memory of the GPU is full", "try --frames 8, a smaller --size, or --model storybook"
    if (dynamo := sys.modules.get("torch._dynamo")) and isinstance(error, dynamo.exc.BackendCompilerFailed):
        why = str(error).partition("\n")[0]
        return f"torch cannot compile the model: {why}", "install a C++ compiler such as g++, or leave out --compile"
    return None


def _keeps(words: list[str]) -> bool:
    """Whether what was done is kept of a command, given as its words, that is stopped."""
    name = " ".join(words[: 2 if words[:1] == ["models"] else 1])
    return name in KEEP and not ONLY_TELL & {word.partition("=")[0] for word in words}


app = typer.Typer(
    name="storycli",
    cls=StoryGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a written story and a few pictures of its hero into a video.\n\n"
    "Each event of the story becomes a clip: its motion comes from a real clip found in a library, "
    "its look from a text prompt, its hero from your pictures.",
    epilog="Start with [bold]storycli demo[/], then [bold]storycli render story.txt --character teddy/[/].",
)


def _version(wanted: bool) -> None:
    if wanted:
        from storycli import __version__

        print(f"storycli {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Say which version this is."
    ),
) -> None:
    pass


PANELS = {
    "Films": (film.render, film.plan, film.again, film.demo),
    "Clips": (library.index, library.search),
    "Training": (
        training.train_character,
        training.train_base,
        training.train_structure,
        training.train_autoencoder,
        training.train_decoder,
        training.train_depth,
        training.train_retrieval,
    ),
    "Care": (
        evaluate.evaluate,
        evaluate_characters.evaluate_characters,
        evaluate_retrieval.evaluate_retrieval,
        evaluate_training.evaluate_training,
        doctor.doctor,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        paragraphs = (" ".join(paragraph.split()) for paragraph in command.__doc__.split("\n\n"))
        app.command(rich_help_panel=panel, help="\n\n".join(paragraphs))(command)
app.add_typer(models.app, name="models", rich_help_panel="Care")
