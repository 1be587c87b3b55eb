"""`holdfast courses`: what there is to learn, and publishing it from files."""

import dataclasses
import getpass
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import Settings
from holdfast.systems import courses
from holdfast.systems.courses import CourseSummary, Published

app = typer.Typer(no_args_is_help=True, help="Courses: list, publish.")

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="A course in YAML or JSON.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count whom it would touch.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Publish a course as its next version; who is enrolled stays in his until he moves."""
    settings = _settings()
    try:
        document = courses.read(file)
    except (OSError, UnicodeDecodeError) as problem:
        raise typer.BadParameter(f"cannot read {file}: {problem}") from problem
    with place(settings) as where:
        done = terminal.run(_publish(settings, where, document, rehearsal=dry_run))
    if json:
        terminal.answer_json(dataclasses.asdict(done))
        return
    terminal.out.print(_told(done, rehearsal=dry_run))


@app.command("list")
def list_(json: AsJson = False) -> None:
    """Show every course in its newest version."""
    settings = _settings()
    with place(settings) as where:
        found = terminal.run(_list(settings, where))
    if json:
        terminal.answer_json({"items": [dataclasses.asdict(one) for one in found]})
        return
    terminal.table(
        ("slug", "version", "title", "order", "days", "steps"),
        [(c.slug, c.version, c.title, c.flow, c.days, c.steps) for c in found],
    )


def _settings() -> Settings:
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    return settings


def _told(done: Published, *, rehearsal: bool) -> str:
    if not done.created:
        return f"{done.slug} is at version {done.version} already: nothing has changed"
    said = f"would publish {done.slug}" if rehearsal else f"published {done.slug}"
    return (
        f"{said} version {done.version}: {done.steps_added} steps added, {done.steps_removed}"
        f" removed; {done.touched} unfinished enrolments may move, {done.finishing} of them"
        " would finish a day by it"
    )


async def _publish(
    settings: Settings, where: Place, document: dict[str, Any], *, rehearsal: bool
) -> Published:
    async with await where.open(settings) as db:
        actor = f"cli:{getpass.getuser()}"
        return await courses.publish(db, document, actor=actor, rehearsal=rehearsal)


async def _list(settings: Settings, where: Place) -> list[CourseSummary]:
    async with await where.open(settings) as db:
        return await courses.catalogue(db)
