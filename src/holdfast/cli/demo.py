"""`holdfast demo`: everything at once, live: database, server, worker, paid stories, a refund."""

import asyncio
import contextlib
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
import yaml
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from holdfast.cli import logs, personas, terminal
from holdfast.cli.place import Place, fit, place, read_settings
from holdfast.cli.serve import serving
from holdfast.cli.verify import show
from holdfast.config import Settings
from holdfast.errors import PortTaken
from holdfast.kernel import ledger, queue, verify
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, stories

_LOOK_EVERY = 0.2  # seconds
_FINISHED = ("completed", "failed", "cancelled")


_INVITATION = """
Still serving [bold]URL[/bold] (its API: URL/docs). Ask for a story yourself:

  TOKEN=$(holdfast token --as me)
  curl URL/api/generate -H "Authorization: Bearer $TOKEN" -H 'Idempotency-Key: first' \\
    --json '{"prompt": "A fox"}'

[bold]Ctrl-C[/bold] stops everything."""


@dataclass(slots=True)
class _Sample:
    person: str
    account: UUID
    prompt: str
    job: UUID
    bar: TaskID | None = None


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the sample stories.")] = False,
    port: Annotated[
        int | None, typer.Option(help="Port; a free one where the usual is taken.")
    ] = None,
) -> None:
    """Start everything and make sample stories, live; then keep serving."""
    settings = read_settings(port=port)
    logs.configure(settings, at_least="error")
    with place(settings, serving=True) as where:
        fit(settings, where)
        try:
            code = terminal.run(_demo(settings, where, once))
        except PortTaken:
            if port is not None:
                raise
            terminal.note(f"Port {settings.port} is taken, so a free one is used.")
            code = terminal.run(_demo(read_settings(port=0), where, once))
    raise typer.Exit(code)


async def _demo(settings: Settings, where: Place, once: bool) -> int:
    started, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    server = asyncio.create_task(
        serving(settings, where, worker=True, started=started, stop=stop), name="serving"
    )
    await asyncio.wait({server, started}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        await server  # it says why
    url = started.result()
    terminal.note(f"Holdfast serves [bold]{url}[/bold] on PostgreSQL {where.standing.version}.\n")
    shown = asyncio.create_task(_show_off(settings, where))
    try:
        await asyncio.wait({server, shown}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():  # stopped in the middle of it
            return 130
        ok = await shown
        if not once:
            terminal.note(_INVITATION.replace("URL", url))
            await server
    finally:
        shown.cancel()
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(server, shown)
    return 0 if ok else 1


async def _show_off(settings: Settings, where: Place) -> bool:
    async with await where.open(settings) as db:
        await personas.sample_orders(db)
        samples = await _order(db)
        with Progress(
            TextColumn("{task.fields[person]}"),
            TextColumn("{task.fields[phase]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>3.0f} of {task.total:.0f} words"),
            TextColumn("{task.fields[tail]}", style="dim"),
            console=terminal.err,
            disable=not terminal.err.is_terminal,
        ) as bars:
            await _watch(db, samples, bars)
        await _account_for(db, samples)
        terminal.out.print()
        found = await verify.run(db)
    show(found)
    return not any(one.violations for one in found)


async def _order(db: Database) -> list[_Sample]:
    """Have the sample people pay for the sample stories; who has too little is given more."""
    told: list[dict[str, Any]] = yaml.safe_load(
        (resources.files("holdfast.cli") / "samples.yaml").read_text("utf-8")
    )
    run, made = uuid4().hex[:12], []
    await _declared(db)
    for n, sample in enumerate(told):
        name = sample["person"]
        who = await accounts.sign_in(db, kind="dev", subject=name, name=name)
        price = next(p for p in await ledger.prices(db) if p.kind == stories.KIND)
        cost = price.amount * max(1, -(-sample["words"] // price.per))
        if who.balance - who.held < cost:
            await ledger.grant(
                db, account_id=who.id, amount=cost, key=f"demo-{run}-{n}", kind="promotional"
            )
        bought = await stories.generate(
            db,
            account_id=who.id,
            prompt=sample["prompt"],
            language=sample["language"],
            words=sample["words"],
            key=f"demo-{run}-{n}",
        )
        title = sample["prompt"].split(" ", 2)[2].removeprefix("!fail ")
        made.append(_Sample(name, who.id, title, bought.id))
        terminal.note(f"{name} pays {bought.price} crystals: {title}")
    terminal.note("")
    return made


async def _declared(db: Database) -> None:
    """Wait until the worker has said which kinds there are."""
    async with asyncio.timeout(30):
        while not any(row["kind"] == stories.KIND for row in await queue.depth(db)):
            await asyncio.sleep(0.05)


async def _watch(db: Database, samples: list[_Sample], bars: Progress) -> None:
    chunks = {sample.job: 0 for sample in samples}
    tails = {sample.job: "" for sample in samples}
    for sample in samples:
        sample.bar = bars.add_task("", person=sample.person, phase="queued", tail="", total=1)
    while chunks:
        for seen in await queue.watch(db, chunks):
            sample = next(one for one in samples if one.job == seen.id)
            assert sample.bar is not None
            tails[seen.id] = (tails[seen.id] + (seen.chunk or ""))[-200:]
            tail = " ".join(tails[seen.id].split())[-48:]
            if seen.progress:
                bars.update(sample.bar, completed=seen.progress["done"],
                            total=seen.progress["total"] or 1)  # fmt: skip
            bars.update(sample.bar, phase=seen.status, tail=tail)
            if seen.status in _FINISHED:
                _finished(bars, sample, seen.status)
                del chunks[seen.id]
            else:
                chunks[seen.id] = seen.chunks
        await asyncio.sleep(_LOOK_EVERY)


def _finished(bars: Progress, sample: _Sample, status: str) -> None:
    assert sample.bar is not None
    if status == "completed":
        bars.update(sample.bar, completed=bars.tasks[sample.bar].total or 1)
    if bars.disable:
        terminal.note(f"{sample.person}: {status}")


async def _account_for(db: Database, samples: list[_Sample]) -> None:
    rows = []
    for sample in samples:
        job = await queue.get(db, job_id=sample.job, owners=None)
        opening = " ".join(((job.result or {}).get("text") or "").split())[:60]
        rows.append(
            (sample.person, job.status, job.charged, job.refunded,
             opening + " …" if opening else (job.error_detail or job.error_code))
        )  # fmt: skip
    terminal.table(("who", "story", "charged", "refunded", "what came of it"), rows)
    people = {sample.person: sample.account for sample in samples}
    left = [(name, (await ledger.wallet_of(db, account_id=who)).balance)
            for name, who in people.items()]  # fmt: skip
    terminal.out.print()
    terminal.table(("who", "crystals left"), left)
