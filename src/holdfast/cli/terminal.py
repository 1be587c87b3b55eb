"""What a person sees: answers on stdout, everything else on stderr; colours only on a terminal."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from holdfast.errors import HoldfastError
from holdfast.messages import LOCALES

_WIDE = 200  # columns of a file or a pipe, which has none of its own

out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_T = TypeVar("_T")


def locale() -> str:
    """Return the language of this terminal, where we speak it."""
    told = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return told[:2] if told[:2] in LOCALES else "en"


def tell(problem: HoldfastError) -> None:
    """Say in one sentence what is wrong, and what to do next."""
    language = locale()
    reason = problem.facts.get("reason")
    detail = problem.detail(language)
    err.print(f"[red]holdfast:[/red] {_plain(detail)}" + (f" ({_plain(reason)})" if reason else ""))
    if advice := problem.next(language):
        err.print(f"  {_plain(advice)}")


def say(text: str, advice: str = "") -> None:
    """Say a sentence that is not an answer: on stderr."""
    err.print(f"[red]holdfast:[/red] {_plain(text)}")
    if advice:
        err.print(f"  {_plain(advice)}")


def note(text: str) -> None:
    """Tell how things go, on stderr."""
    err.print(text)


def answer_json(value: object) -> None:
    """Answer as JSON, on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def answer_line(text: str) -> None:
    """Answer one plain line, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Answer as a table, on stdout."""
    made = Table(*columns, header_style="bold", box=None)
    for row in rows:
        made.add_row(*(_plain("" if cell is None else str(cell)) for cell in row))
    out.print(made)


def pairs(values: Mapping[str, object]) -> None:
    """Answer names and values, on stdout."""
    wide = max(map(len, values), default=0)
    for name, value in values.items():
        out.print(f"[bold]{name.ljust(wide)}[/bold]  {_plain('' if value is None else str(value))}")


def progress() -> Progress:
    """Return bars for what takes more than a second; on stderr, and gone when done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


@contextmanager
def waiting(what: str) -> Any:
    """Show that something takes a moment."""
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine."""
    return asyncio.run(work)


def _plain(text: object) -> str:
    """Keep what only looks like markup as it is."""
    return str(text).replace("[", "\\[")
