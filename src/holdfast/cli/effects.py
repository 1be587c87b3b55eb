"""`holdfast effects`: dead letters, and what is decided about them."""

import dataclasses
import getpass
from typing import Annotated, Literal
from uuid import UUID

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import Settings
from holdfast.kernel import outbox
from holdfast.kernel.outbox import DeadLetter

app = typer.Typer(no_args_is_help=True, help="Effects: dead letters, redrive, skip.")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Show dead letters, newest first."""
    settings = _settings()
    with place(settings) as where:
        found = terminal.run(_dead(settings, where, limit))
    if json:
        terminal.answer_json({"items": [dataclasses.asdict(one) for one in found]})
        return
    if not found:
        terminal.out.print("no dead letters")
        return
    terminal.table(
        ("effect", "topic", "channel", "stream", "tries", "behind", "since", "error"),
        [
            (e.id, e.topic, e.channel, e.stream, e.attempts, e.behind, e.finished_at, e.error)
            for e in found
        ],
    )


@app.command()
def redrive(effect: Annotated[UUID, typer.Argument(help="The effect's id.")]) -> None:
    """Send a dead letter again, and then what waits behind it."""
    _decide(effect, "redrive")
    terminal.out.print(f"{effect} is sent again")


@app.command()
def skip(effect: Annotated[UUID, typer.Argument(help="The effect's id.")]) -> None:
    """Pass a dead letter by, and send what waits behind it."""
    _decide(effect, "skip")
    terminal.out.print(f"{effect} was passed by")


def _settings() -> Settings:
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    return settings


def _decide(effect: UUID, action: Literal["redrive", "skip"]) -> None:
    settings = _settings()

    async def decide(where: Place) -> None:
        async with await where.open(settings) as db:
            actor = f"cli:{getpass.getuser()}"
            await outbox.decide(db, effect_id=effect, action=action, actor=actor)

    with place(settings) as where:
        terminal.run(decide(where))


async def _dead(settings: Settings, where: Place, limit: int) -> list[DeadLetter]:
    async with await where.open(settings) as db:
        return await outbox.dead_letters(db, limit=limit)
