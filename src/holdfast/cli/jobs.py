"""`holdfast jobs`: what waits and runs, one job's whole story, and calling one off."""

import dataclasses
import getpass
from typing import Annotated, Any
from uuid import UUID

import typer

from holdfast.cli import logs, terminal
from holdfast.cli.place import Place, place, read_settings
from holdfast.config import Settings
from holdfast.kernel import queue

app = typer.Typer(no_args_is_help=True, help="Jobs: what waits, one job's whole story, cancel.")

_Json = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


@app.command("list")
def list_(
    account: Annotated[UUID | None, typer.Option(help="Only this account's, newest first.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 50,
    json: _Json = False,
) -> None:
    """Show what waits and runs, by kind; or the jobs of one account."""
    settings = _settings()
    with place(settings) as where:
        if account is None:
            _answer_depth(terminal.run(_depth(settings, where)), json=json)
        else:
            found = terminal.run(_of(settings, where, account, limit))
            _answer_jobs(found, json=json)


@app.command()
def show(job: Annotated[UUID, typer.Argument(help="The job's id.")], json: _Json = False) -> None:
    """Show one job's whole story: charge, attempts, why each ended, refund, audit."""
    settings = _settings()
    with place(settings) as where:
        found, steps = terminal.run(_story(settings, where, job))
    if json:
        told = [dataclasses.asdict(step) for step in steps]
        terminal.answer_json({**dataclasses.asdict(found), "story": told})
        return
    terminal.pairs(
        {
            "job": found.id, "kind": found.kind, "account": found.account_id,
            "status": found.status, "attempt": f"{found.attempt} of {found.attempts}",
            "price": found.price, "charged": found.charged, "refunded": found.refunded,
            "progress": found.progress,
            "error": " ".join(filter(None, (found.error_code, found.error_detail))) or None,
        }
    )  # fmt: skip
    terminal.out.print()
    terminal.table(
        ("at", "what", "from", "to", "amount", "balance", "who", "why"),
        [
            (s.at.strftime("%H:%M:%S.%f")[:-3], s.what, s.from_status, s.to_status, s.amount,
             s.balance_after, s.actor, s.detail)
            for s in steps
        ],
    )  # fmt: skip


@app.command()
def cancel(job: Annotated[UUID, typer.Argument(help="The job's id.")], json: _Json = False) -> None:
    """Call a job off; it is refunded when it was not delivered."""
    settings = _settings()
    with place(settings) as where:
        ended = terminal.run(_cancel(settings, where, job))
    if json:
        terminal.answer_json({"id": str(job), "status": ended.status, "refunded": ended.refunded})
    else:
        terminal.out.print(f"{job} is {ended.status}, {ended.refunded} refunded")


def _settings() -> Settings:
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    return settings


async def _depth(settings: Settings, where: Place) -> list[dict[str, Any]]:
    async with await where.open(settings) as db:
        return await queue.depth(db)


async def _of(settings: Settings, where: Place, account: UUID, limit: int) -> list[queue.Job]:
    async with await where.open(settings) as db:
        return await queue.list_of(db, owners=[account], limit=limit)


async def _story(settings: Settings, where: Place, job: UUID) -> tuple[queue.Job, list[queue.Step]]:
    async with await where.open(settings) as db:
        found = await queue.get(db, job_id=job, owners=None)
        return found, await queue.story(db, job_id=job)


async def _cancel(settings: Settings, where: Place, job: UUID) -> queue.Ended:
    async with await where.open(settings) as db:
        return await queue.cancel(db, job_id=job, owners=None, actor=f"cli:{getpass.getuser()}")


def _answer_depth(rows: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        terminal.answer_json({"kinds": rows})
        return
    terminal.table(
        ("kind", "waiting", "running", "oldest", "paused until", "why"),
        [
            (r["kind"], r["waiting"], r["leased"], r["oldest"], r["paused_until"],
             r["pause_reason"])
            for r in rows
        ],
    )  # fmt: skip


def _answer_jobs(found: list[queue.Job], *, json: bool) -> None:
    if json:
        terminal.answer_json({"items": [dataclasses.asdict(job) for job in found]})
        return
    terminal.table(
        ("job", "kind", "status", "attempt", "charged", "refunded", "created", "error"),
        [
            (j.id, j.kind, j.status, j.attempt, j.charged, j.refunded,
             j.created_at.isoformat(timespec="seconds"), j.error_code)
            for j in found
        ],
    )  # fmt: skip
