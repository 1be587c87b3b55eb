"""`holdfast token` and `holdfast role`: development tokens, and the first admin."""

import enum
import getpass
from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import Settings
from holdfast.errors import ProductionRefused
from holdfast.systems import accounts
from holdfast.systems.accounts import development


class RoleName(enum.StrEnum):
    """Roles, weakest first."""

    user = "user"
    operator = "operator"
    supervisor = "supervisor"
    admin = "admin"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(token)
    app.command()(role)


def token(
    names: Annotated[list[str], typer.Option("--as", help="Whose token; may be given again.")],
    called: Annotated[
        RoleName | None, typer.Option("--role", help="The role these accounts get.")
    ] = None,
) -> None:
    """Print a development token for each name, valid for 12 hours; accounts are made."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    if settings.production:  # before anybody's account is made
        raise ProductionRefused(reason="tokens of the development key are for HOLDFAST_ENV=dev")
    if bad := [name for name in names if not 1 <= len(name.strip()) <= 200]:
        raise typer.BadParameter(f"a name has 1 to 200 characters, not {len(bad[0])}")
    with place(settings) as where:
        for made in terminal.run(_mint(settings, where, names, called)):
            terminal.answer_line(made)


async def _mint(
    settings: Settings, where: Place, names: list[str], called: RoleName | None
) -> list[str]:

    made = []
    async with await where.open(settings) as db, await where.open_owner() as owner:
        for name in names:
            account = await accounts.sign_in(db, kind="dev", subject=name, name=name)
            if called is not None and account.role != called.value:
                await accounts.set_role(
                    owner, account_id=account.id, role=called.value, actor="cli:token"
                )
            made.append(development.mint(settings, name))
    return made


def role(
    account: Annotated[UUID, typer.Argument(help="The account's id.")],
    called: Annotated[RoleName, typer.Argument(metavar="ROLE", help="user … admin")],
) -> None:
    """Give an account a role, audited. Needs the owner's URL."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    with place(settings) as where:
        terminal.run(_give(where, account, called))
    terminal.note(f"{account} is now {called.value}")


async def _give(where: Place, account: UUID, called: RoleName) -> None:
    async with await where.open_owner() as owner:
        await accounts.set_role(
            owner, account_id=account, role=called.value, actor=f"cli:{getpass.getuser()}"
        )
