"""`holdfast migrate`: bring the schema up to date."""

import dataclasses
from typing import Annotated

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import place, read_settings
from holdfast.postgres.install import install


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Bring the database up to date: migrations, then every verb, in one transaction."""
    settings = read_settings()
    logs.configure(settings)
    with place(settings, ready=False) as where:
        with terminal.waiting("installing the schema …"):
            done = install(where.owner_url, settings.stored(explicit_only=True))
        if json:
            terminal.answer_json(dataclasses.asdict(done))
            return
        for name in done.migrations:
            terminal.out.print(f"applied {name}")
        if done.settings:
            terminal.out.print(f"settings written: {', '.join(done.settings)}")
        terminal.out.print(
            f"{done.verbs} verbs made anew" if done.verbs else "the schema is up to date"
        )
        if done.same_role:
            terminal.say(f"one role only: {done.same_role}; the guards are the only wall.")
