"""`holdfast doctor`: what is wrong with this installation, and what to do."""

import dataclasses
import os
import platform
from typing import Annotated, Any

import typer

import holdfast
from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import (
    Settings,
    listing,
    masked,
    production_problems,
    production_warnings,
    unknown,
)
from holdfast.errors import HoldfastError
from holdfast.postgres.walls import APPLICATION


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON, URLs whole.")] = False,
) -> None:
    """Say what is wrong here and what to do; every setting, secrets masked. Exits 1 for a fault."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    found = examine(settings)
    if json:
        terminal.answer_json(found)
    else:
        _show(found)
    raise typer.Exit(0 if found["ok"] else 1)


def examine(settings: Settings) -> dict[str, Any]:
    """Return everything the doctor knows. URLs are whole: mask them before showing them."""
    made: dict[str, Any] = {
        "ok": True,
        "version": holdfast.__version__,
        "python": platform.python_version(),
        "environment": settings.env,
        "home": str(settings.home),
        "database": "embedded" if settings.embedded else "given",
        "databaseUrl": None,
        "applicationRole": APPLICATION,
        "problems": [],
        "warnings": [f"in production, {doubt}" for doubt in production_warnings(settings)],
        "weakerPromises": [],
    }
    for name, near in unknown(os.environ).items():
        advice = f"; did you mean {near}?" if near else ""
        made["warnings"].append(f"{name} is no setting of Holdfast{advice}")
    shift = 0.0
    try:
        with place(settings, ready=False) as where:
            made |= _of_database(settings, where, made["problems"])
            shift = where.standing.clock_shift
    except HoldfastError as problem:
        language = terminal.locale()
        made["problems"].append({"what": problem.detail(language), "do": problem.next(language)})
    for problem_text in production_problems(settings, clock_shift_seconds=shift):
        made["problems"].append({"what": f"production refuses: {problem_text}", "do": ""})
    made["ok"] = not made["problems"]
    made["settings"] = [dataclasses.asdict(line) for line in listing(settings)]
    return made


def _of_database(
    settings: Settings, where: Place, problems: list[dict[str, str]]
) -> dict[str, Any]:
    standing = where.standing
    if not standing.installed:
        problems.append({"what": "this database has no schema", "do": "holdfast migrate"})
    elif standing.pending:
        missing = ", ".join(standing.pending)
        problems.append({"what": f"the schema lacks {missing}", "do": "holdfast migrate"})
    return {
        "databaseUrl": where.owner_url,
        "ownerUrl": where.owner_url,
        "applicationUrl": where.url,
        "applicationRole": APPLICATION,
        "server": standing.version,
        "login": standing.login,
        "schema": {"installed": standing.installed, "pending": list(standing.pending)},
        "weakerPromises": list(standing.weaker),
        "serverLog": str(where.server.log) if where.server else None,
        "listenUrl": settings.listen_url and masked(settings.listen_url),
    }


def _show(found: dict[str, Any]) -> None:
    plain = {name: value for name, value in found.items() if not isinstance(value, list | dict)}
    for name in ("databaseUrl", "ownerUrl", "applicationUrl"):
        if plain.get(name):
            plain[name] = masked(plain[name])
    terminal.pairs({**plain, "ok": "yes" if found["ok"] else "no"})
    terminal.out.print()
    terminal.table(
        ("setting", "value", "unit", "from"),
        [(s["name"], s["value"], s["unit"], s["source"]) for s in found["settings"]],
    )
    for text in [*found["warnings"], *found["weakerPromises"]]:
        terminal.note(f"[yellow]note:[/yellow] {text}")
    for problem in found["problems"]:
        terminal.say(problem["what"], problem["do"])
    if found["ok"]:
        terminal.note("[green]Nothing is wrong here.[/green]")
