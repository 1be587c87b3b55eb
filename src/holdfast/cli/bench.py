"""`holdfast bench`: the figures of the docs, measured on this machine."""

import dataclasses
import os
import platform
import statistics
from typing import Annotated, Any

import psycopg
import typer

from holdfast.bench import lifecycle as lives
from holdfast.bench import raw
from holdfast.bench import sign_in as signing
from holdfast.bench import start as starting
from holdfast.bench import steps as training
from holdfast.bench import take as takes
from holdfast.bench.ground import Ground, ground
from holdfast.cli import logs, terminal
from holdfast.cli.place import read_settings

app = typer.Typer(no_args_is_help=True, help="Measure speed here, on a database of its own.")

Url = Annotated[
    str | None,
    typer.Option("--url", help="A server and role that may create databases; embedded without it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON.")]


def machine(where: Ground) -> str:
    """Name what was measured on: figures mean nothing without it."""
    with psycopg.connect(where.owner_url) as connection:
        version = connection.info.server_version // 10000
    return f"{os.cpu_count()} cores, {platform.machine()}, PostgreSQL {version}, durable"


@app.command()
def lifecycle(
    jobs: Annotated[int, typer.Option(min=1000, help="Jobs in each measurement.")] = 20_000,
    drain: Annotated[int, typer.Option(min=0, help="Waiting jobs to drain; 0: none.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 3,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Whole metered lifecycles per second, and a long drain with and without an open snapshot."""
    with ground(url) as where, terminal.progress() as bars:
        found: dict[str, Any] = {"machine": machine(where)}
        bar = bars.add_task("one caller", total=None)

        def measure(what: str, total: int) -> lives.Tell:
            bars.reset(bar, description=what, total=total)
            return lambda done: bars.advance(bar, done)

        raw.prepare(where.owner_url)
        found["raw"] = raw.transactions(where.owner_url)
        alone, latency = terminal.run(lives.single(where, max(200, jobs // 50)))
        found["single"] = _rates(alone) | {"latencyMs": latency}
        tell = measure("arrays", 2 * rounds * jobs)
        found["arrays"] = _rates(terminal.run(lives.arrays(where, jobs, rounds, tell)))
        for callers in (64, 256):
            tell = measure(f"{callers} callers", 2 * rounds * jobs)
            rates = terminal.run(lives.combined(where, jobs, callers, rounds, tell))
            found[f"callers{callers}"] = _rates(rates)
    if drain:
        found["drain"] = _drain(url, drain, hold=False)
        found["drainHeld"] = _drain(url, drain, hold=True)
    terminal.answer_json(found) if json else _show(found)


@app.command()
def steps(
    people: Annotated[int, typer.Option(min=1, help="People who finish the long course.")] = 3,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Finish steps in a course of 1,000 and in courses of 10, side by side."""
    logs.configure(read_settings(), at_least="warning")
    with ground(url) as where, terminal.waiting("finishing steps …"):
        found = terminal.run(training.measure(where, people))
        named = machine(where)
    if json:
        terminal.answer_json({"machine": named, "ratio": found.ratio} | dataclasses.asdict(found))
        return
    terminal.note(named)
    terminal.table(
        ("finish a step", "ms (median)", "against 10"),
        [
            (f"of {training.SHORT}", f"{found.short:.2f}", "1.00"),
            (f"of {training.LONG:,}", f"{found.long:.2f}", f"{found.ratio:.2f}"),
            ("the last tenth of them", f"{found.long_last_tenth:.2f}",
             f"{found.long_last_tenth / found.short:.2f}"),
        ],
    )  # fmt: skip
    terminal.note(f"{found.round_trips:.2f} round trips a step")


def _drain(url: str | None, jobs: int, *, hold: bool) -> list[float]:
    """Drain on a ground of its own, so that one drain's dead rows are not the other's."""
    with ground(url) as where, terminal.progress() as bars:
        bar = bars.add_task("drain, snapshot held" if hold else "drain", total=2 * jobs)
        return terminal.run(
            lives.drain(where, jobs, hold=hold, tell=lambda n: bars.advance(bar, n))
        )


def _rates(rates: lives.Rates) -> dict[str, float]:
    return dataclasses.asdict(rates) | {"whole": rates.whole}


def _show(found: dict[str, Any]) -> None:
    terminal.note(found["machine"])
    names = {
        "single": "one caller at a time",
        "arrays": f"arrays of {lives.BATCH}",
        "callers64": "64 callers, combined",
        "callers256": "256 callers, combined",
    }
    rows = [
        (name, *(f"{found[key][part]:,.0f}" for part in ("enqueued", "processed", "whole")),
         f"{found[key]['enqueued'] / found['raw']:.2f}")
        for key, name in names.items()
    ]  # fmt: skip
    terminal.table(
        ("jobs per second", "charged + enqueued", "processed", "lifecycles", "enqueued / raw"),
        rows,
    )
    terminal.note(f"raw: {found['raw']:,.0f} transactions of five statements/s, 16 clients")
    terminal.note(f"one caller waits {found['single']['latencyMs']:.2f} ms for a charged job")
    if "drain" in found:
        _show_drain(found["drain"], found["drainHeld"])


def _show_drain(free: list[float], held: list[float]) -> None:
    terminal.table(
        ("drain, jobs/s by tenths", *map(str, range(1, 11)), "last / first"),
        [
            (name, *(f"{rate:,.0f}" for rate in rates), f"{rates[-1] / rates[0]:.2f}")
            for name, rates in (("free", free), ("snapshot held", held))
        ],
    )
    ratio = _mean_rate(held) / _mean_rate(free)
    terminal.note(f"held / free over the whole drain: {ratio:.2f}")


def _mean_rate(tenths: list[float]) -> float:
    """Return the rate over all tenths, each the same number of jobs."""
    return len(tenths) / sum(1 / rate for rate in tenths)


@app.command()
def take(
    tries: Annotated[int, typer.Option(min=64, help="Contended takes by 64 operators.")] = 100_000,
    times: Annotated[int, typer.Option(min=20, help="Takes of each way compared.")] = 1000,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Contended takes of orders, and what the guard costs beside the seed's shape."""
    with ground(url) as where, terminal.progress() as bars:
        race = bars.add_task("64 operators, one order", total=tries)
        contended = terminal.run(
            takes.contended(where, tries, tell=lambda n: bars.advance(race, n))
        )
        turn = bars.add_task("in turn with the seed's shape", total=2 * times)
        ratios = terminal.run(takes.ratios(where, times, tell=lambda n: bars.advance(turn, n)))
        name = machine(where)
    if json:
        shown = dataclasses.asdict(ratios) | {
            "take": ratios.take, "far_take": ratios.far_take, "guard": ratios.guard
        }  # fmt: skip
        terminal.answer_json(
            {"machine": name, "contended": dataclasses.asdict(contended), "ratios": shown}
        )
    else:
        _show_take(name, contended, ratios)
    if contended.double or contended.audited != contended.orders:
        raise typer.Exit(1)


def _show_take(name: str, contended: takes.Contended, ratios: takes.Ratios) -> None:
    terminal.note(name)
    terminal.note(
        f"{contended.takes:,} takes of {contended.orders:,} orders by {takes.OPERATORS} operators:"
        f" {contended.double} double assignments, {contended.audited:,} in the audit;"
        f" p50 {contended.p50_ms:.1f} ms, p99 {contended.p99_ms:.1f} ms"
    )
    terminal.table(
        ("p50 in one run", "ms", "beside", "ms", "ratio"),
        [
            ("the whole take", f"{ratios.take_ms:.2f}", "the seed's shape",
             f"{ratios.seed_ms:.2f}", f"{ratios.take:.2f}"),
            (f"the same, {takes.ROUND_TRIP * 1000} ms away", f"{ratios.far_take_ms:.2f}",
             "the seed's shape", f"{ratios.far_seed_ms:.2f}", f"{ratios.far_take:.2f}"),
            ("compound WHERE", f"{ratios.compound_ms:.2f}", "bare UPDATE",
             f"{ratios.bare_ms:.2f}", f"{ratios.guard:.2f}"),
        ],
    )  # fmt: skip


@app.command("sign-in")
def sign_in(
    people: Annotated[int, typer.Option(min=100, help="People who sign in, each round.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median counts.")] = 5,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Sign-ins per second of 16 clients, new and old, beside the seed's shape."""
    with ground(url) as where, terminal.progress() as bars:
        bar = bars.add_task("in turn with the seed's shape", total=4 * people * (rounds + 1))
        found = terminal.run(
            signing.measure(where, people, rounds, tell=lambda n: bars.advance(bar, n))
        )
        name = machine(where)
    if json:
        terminal.answer_json({"machine": name} | dataclasses.asdict(found))
        return
    terminal.note(name)
    terminal.table(
        (f"sign-ins/s, {signing.CLIENTS} clients", "Holdfast", "the seed's shape", "ratio"),
        [
            ("new", f"{found.new:,.0f}", f"{found.seed_new:,.0f}", f"{found.new_ratio:.2f}"),
            ("old", f"{found.old:,.0f}", f"{found.seed_old:,.0f}", f"{found.old_ratio:.2f}"),
        ],
    )


@app.command()
def start(
    jobs: Annotated[int, typer.Option(min=20, help="Jobs, one at a time.")] = 400,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """How long an idle queue lets a job wait before its handler starts."""
    settings = read_settings()
    logs.configure(settings, at_least="warning")
    with ground(url) as where, terminal.progress() as bars:
        bar = bars.add_task("one at a time", total=jobs)
        found = terminal.run(
            starting.measure(where, settings, jobs, tell=lambda n: bars.advance(bar, n))
        )
        name = machine(where)
    centiles = {
        "fromCommit": statistics.quantiles(found.from_commit, n=100),
        "fromCall": statistics.quantiles(found.from_call, n=100),
    }
    shown = (50, 90, 99)
    seen = {which: {f"p{n}": of[n - 1] for n in shown} for which, of in centiles.items()}
    if json:
        terminal.answer_json({"machine": name, "jobs": jobs} | seen)
        return
    terminal.note(name)
    terminal.table(
        ("a handler starts, ms after", *(f"p{n}" for n in shown)),
        [
            (what, *(f"{spent:.1f}" for spent in seen[which].values()))
            for what, which in (("the commit", "fromCommit"), ("the call", "fromCall"))
        ],
    )
