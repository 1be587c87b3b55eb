"""The commands, and what all of them share: one sentence for an error, never a traceback."""

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import typer
from typer.exceptions import TyperException

import holdfast
from holdfast.cli import terminal
from holdfast.errors import HoldfastError

# Which module has a command: only that one is imported, and all of them for help and completion.
_COMMANDS = {
    "serve": "serve",
    "work": "serve",
    "demo": "demo",
    "migrate": "migrate",
    "token": "people",
    "role": "people",
    "verify": "verify",
    "doctor": "doctor",
    "psql": "psql",
    "mend": "mend",
}
_GROUPS = ("jobs", "effects", "courses", "bench")


def app_of(arguments: Sequence[str]) -> typer.Typer:
    """Return the application, with at least the command that these arguments name."""
    named = next((word for word in arguments if not word.startswith("-")), None)
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    alone = named is not None and not completing and named in {*_COMMANDS, *_GROUPS}
    app = typer.Typer(
        name="holdfast",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
        help="Paid, multi-step work on PostgreSQL that stays right in a race and after a crash.",
    )
    app.callback()(_about)
    for module in dict.fromkeys(_COMMANDS.values()):
        if not alone or _COMMANDS.get(named or "") == module:
            import_module(f"holdfast.cli.{module}").add_to(app)
    for group in _GROUPS:
        if not alone or named == group:
            app.add_typer(import_module(f"holdfast.cli.{group}").app, name=group)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        terminal.answer_line(holdfast.__version__)
        raise typer.Exit


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
        given = sys.argv[1:] if arguments is None else [*arguments]
        code = app_of(given)(args=given, standalone_mode=False)
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
