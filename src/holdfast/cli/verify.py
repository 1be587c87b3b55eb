"""`holdfast verify`: the promises, counted."""

import dataclasses
from typing import Annotated

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import Settings
from holdfast.kernel import verify as promises
from holdfast.kernel.verify import Invariant


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Check every promise in the live database; exits 1 when one is broken."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    with place(settings) as where:
        found = terminal.run(_count(settings, where))
    ok = not any(one.violations for one in found)
    if json:
        terminal.answer_json({"ok": ok, "invariants": [dataclasses.asdict(one) for one in found]})
    else:
        show(found)
    raise typer.Exit(0 if ok else 1)


async def _count(settings: Settings, where: Place) -> list[Invariant]:
    async with await where.open(settings) as db:
        with terminal.progress() as bars:
            bar = bars.add_task("verifying")

            def step(name: str, done: int, total: int) -> None:
                bars.update(bar, description=name, completed=done, total=total)

            return await promises.run(db, step)


def show(found: list[Invariant]) -> None:
    """Answer the counts as a table, and what to do where a promise is broken."""
    terminal.table(
        ("", "invariant", "checked", "violations", "what it says"),
        [
            ("BROKEN" if one.violations else "ok", one.name, one.checked, one.violations,
             one.about + (f" · for example {one.example}" if one.example else ""))
            for one in found
        ],
    )  # fmt: skip
    if any(one.violations for one in found):
        terminal.say(
            "a promise is broken in this database.",
            "`holdfast mend` shows what can be corrected by entries that say why.",
        )
