"""The commands, and what all of them share: one sentence for an error, never a traceback."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import typer
from typer.exceptions import TyperException

import holdfast
from holdfast.cli import (
    bench,
    courses,
    demo,
    doctor,
    effects,
    jobs,
    mend,
    migrate,
    people,
    psql,
    serve,
    terminal,
    verify,
)
from holdfast.errors import HoldfastError

app = typer.Typer(
    name="holdfast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    help="Paid, multi-step work on PostgreSQL that stays right in a race and after a crash.",
)
for _module in (serve, demo, migrate, people, verify, doctor, psql, mend):
    _module.add_to(app)
app.add_typer(jobs.app, name="jobs")
app.add_typer(effects.app, name="effects")
app.add_typer(courses.app, name="courses")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        terminal.answer_line(holdfast.__version__)
        raise typer.Exit


@app.callback()
def _about(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Paid, multi-step work on PostgreSQL that stays right in a race and after a crash."""
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (this process's own by default) and exit with its code.

    0 done · 1 the answer is no, or it could not be done · 2 a wrong command line · 70 a defect of
    ours · 130, 143 interrupted.
    """
    signal.signal(signal.SIGTERM, _end)
    sys.exit(_run(arguments))


def _end(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
    except HoldfastError as problem:
        terminal.tell(problem)
        return 1
    except TyperException as problem:
        return _wrong_line(problem)
    except (typer.Abort, KeyboardInterrupt):
        terminal.say("interrupted.")
        return 130
    except BrokenPipeError:
        # Whoever read our answer has gone; nothing more can be said to him.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except Exception as problem:  # noqa: BLE001 - nobody is shown a traceback
        return _defect(problem)
    return code if isinstance(code, int) else 0


def _wrong_line(problem: TyperException) -> int:
    """Show what is wrong with the command line, with its usage."""
    show = getattr(problem, "show", None)
    if show is None:
        terminal.say(str(problem))
        return 2
    if str(problem):
        show()
    return int(getattr(problem, "exit_code", 2))


def _defect(problem: BaseException) -> int:
    if os.environ.get("HOLDFAST_LOG_LEVEL", "").strip().lower() == "debug":
        terminal.err.print_exception()
    terminal.say(
        f"a defect of Holdfast: {type(problem).__name__}: {problem}".splitlines()[0],
        "HOLDFAST_LOG_LEVEL=debug shows where; please report it.",
    )
    return 70
