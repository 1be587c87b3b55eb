"""`holdfast mend`: corrects what verify finds, by entries that say why. Never silently."""

import dataclasses
import getpass
from typing import Annotated

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.kernel import verify
from holdfast.kernel.verify import Mendable


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mend)


def mend(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only show.")] = False,
    reason: Annotated[
        str, typer.Option(help="Why; stands in the entries and in the audit.")
    ] = "found by holdfast verify",
    json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Show jobs without their refund or their place in the queue, and with --yes correct them."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    with place(settings) as where:
        found, done = terminal.run(_mend(where, yes, reason))
    if json:
        terminal.answer_json({"mended": yes, "jobs": [dataclasses.asdict(one) for one in found]})
        return
    if not found:
        terminal.out.print("nothing to mend")
        return
    terminal.table(
        ("what", "job", "account", "amount"),
        [(one.what, one.job_id, one.account_id, one.amount) for one in found],
    )
    if yes:
        terminal.out.print(f"mended {done} of {len(found)}")
    else:
        terminal.note("Nothing was changed. `holdfast mend --yes --reason …` does it.")


async def _mend(where: Place, yes: bool, reason: str) -> tuple[list[Mendable], int]:
    done = 0
    async with await where.open_owner() as owner:
        found = await verify.mendable(owner)
        with terminal.progress() as bars:
            for one in bars.track(found if yes else [], description="mending"):
                actor = f"cli:{getpass.getuser()}"
                done += bool(
                    await verify.mend(owner, job_id=one.job_id, actor=actor, reason=reason)
                )
    return found, done
