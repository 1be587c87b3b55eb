"""`holdfast psql`: a prompt in the database, as the application or as the owner."""

import os
import shutil
import subprocess
from typing import Annotated

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import place, read_settings
from holdfast.postgres.programs import programs


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(psql)


def psql(
    context: typer.Context,
    owner: Annotated[bool, typer.Option("--owner", help="As the owner of the tables.")] = False,
) -> None:
    """Open psql; what follows is handed on to it (`holdfast psql -c 'select 1'`)."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    with place(settings, ready=False) as where:
        program = shutil.which("psql")
        if program is None and (programs() / "bin" / "psql").exists():
            program = str(programs() / "bin" / "psql")
        if program is None:
            terminal.say("psql is not installed here.", "On Debian: apt install postgresql-client.")
            raise typer.Exit(1)
        url = where.owner_url if owner else where.url
        options = os.environ.get("PGOPTIONS", "")
        if not owner and where.standing.role:
            options = f"{options} -c role={where.standing.role}".strip()
        # Ctrl-C ends a query there, not us: psql has the terminal now.
        done = subprocess.run(
            [program, url, *context.args], check=False, env={**os.environ, "PGOPTIONS": options}
        )
        raise typer.Exit(done.returncode)
