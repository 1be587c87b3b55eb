"""Taking an order: no double assignment under contention, and what the guard costs.

`contended` has many operators want each order at the same moment. `ratios` compares, in one run and
call by call: the whole `take` with the seed's shape (UPDATE, then the audit's INSERT, as statements
of a transaction), and the UPDATE that names the state it starts from with the one that names the id
only. The first two once more with a database that is `ROUND_TRIP` away: the take does more work on
the server, the seed's shape goes there four times.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg

from holdfast.bench.ground import Ground
from holdfast.bench.link import link
from holdfast.errors import OrderAlreadyAssigned
from holdfast.systems import orders

OPERATORS = 64
ROUND_TRIP = 0.0005  # seconds
Tell = Callable[[int], None]  # takes done since the last call

# As the seed's own schema has it; on our tables the guards would be measured too.
_SEED = """
    create schema seed;
    create table seed.orders (
        id uuid primary key, status text not null default 'PENDING', title text not null,
        assigned_operator_id uuid, assigned_at timestamptz, created_at timestamptz not null,
        updated_at timestamptz not null);
    create index on seed.orders (status, created_at);
    create index on seed.orders (assigned_operator_id);
    create table seed.audit_logs (
        id uuid primary key, order_id uuid not null references seed.orders, action text not null,
        old_value text, new_value text, performed_by uuid not null, at timestamptz not null);
    create index on seed.audit_logs (order_id);
    insert into seed.orders (id, title, created_at, updated_at)
        select gen_random_uuid(), 'x', now(), now() from generate_series(1, {rows});
"""
_BARE = """update seed.orders set status = 'PROCESSING', assigned_operator_id = %s,
    assigned_at = now(), updated_at = now() where id = %s"""
_COMPOUND = """update seed.orders set status = 'PROCESSING', assigned_operator_id = %s,
    assigned_at = now(), updated_at = now()
    where id = %s and status = 'PENDING' and assigned_operator_id is null"""
_AUDIT = """insert into seed.audit_logs (id, order_id, action, old_value, new_value, performed_by,
    at) values (gen_random_uuid(), %s, 'ASSIGNED_TO_OPERATOR', null, %s, %s, now())"""


@dataclass(frozen=True, slots=True)
class Contended:
    """`takes` tries for `orders` orders: how many were won by two, and the rest of the story.

    `audited` counts the assignments in the audit; it equals `orders`. Seconds, milliseconds.
    """

    takes: int
    orders: int
    double: int
    audited: int
    seconds: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Ratios:
    """Medians in milliseconds, in one run; `far`: with a round trip of ROUND_TRIP more."""

    take_ms: float
    seed_ms: float
    compound_ms: float
    bare_ms: float
    far_take_ms: float
    far_seed_ms: float

    @property
    def take(self) -> float:
        """The whole take against the seed's shape; the goal is at most 0.9."""
        return self.take_ms / self.seed_ms

    @property
    def far_take(self) -> float:
        """The same where the database is not on the same machine."""
        return self.far_take_ms / self.far_seed_ms

    @property
    def guard(self) -> float:
        """The compound WHERE against the bare UPDATE; the goal is at most 1.05."""
        return self.compound_ms / self.bare_ms


async def contended(
    ground: Ground, takes: int, *, operators: int = OPERATORS, tell: Tell | None = None
) -> Contended:
    """Have `operators` people, each with a connection, want every order at the same moment."""
    people = [uuid4() for _ in range(operators)]
    double, spent, wanted = 0, list[float](), -(-takes // operators)
    began = time.perf_counter()
    async with AsyncExitStack() as stack:
        connections = [await _connect(stack, ground.app_url) for _ in people]
        await orders.open_desk(connections[0], name="main", role="admin", wip_limit=10_000)
        for _ in range(wanted):
            order = await orders.place(connections[0], customer_id=people[0], title="x")
            outcomes = await asyncio.gather(
                *(_try(c, order.id, p) for c, p in zip(connections, people, strict=True))
            )
            spent += [seconds for _, seconds in outcomes]
            winners = [n for n, (won, _) in enumerate(outcomes) if won]
            double += len(winners) != 1
            await orders.complete(connections[0], order_id=order.id, operator_id=people[winners[0]])
            if tell:
                tell(operators)
        seconds = time.perf_counter() - began
        audited = await _one(ground.owner_url, "select count(*) from audit.event where action ="
                             " 'ASSIGNED_TO_OPERATOR'")  # fmt: skip
    centiles = statistics.quantiles(spent, n=100)
    return Contended(
        takes=wanted * operators,
        orders=wanted,
        double=double,
        audited=audited,
        seconds=seconds,
        p50_ms=centiles[49] * 1000,
        p99_ms=centiles[98] * 1000,
    )


async def _try(connection: Any, order: UUID, person: UUID) -> tuple[bool, float]:
    began = time.perf_counter()
    try:
        await orders.take(connection, order_id=order, operator_id=person)
    except OrderAlreadyAssigned:
        return False, time.perf_counter() - began
    return True, time.perf_counter() - began


async def ratios(ground: Ground, times: int, *, tell: Tell | None = None) -> Ratios:
    """Take `times` orders in each of the four ways, then in the first two from afar."""
    async with AsyncExitStack() as stack:
        owner = await _connect(stack, ground.owner_url)
        ours = await _connect(stack, ground.app_url)
        theirs = await _connect(stack, ground.owner_url)
        far_ours, far_theirs = [
            await _connect(stack, stack.enter_context(link(url, ROUND_TRIP)))
            for url in (ground.app_url, ground.owner_url)
        ]
        await owner.execute(_SEED.replace("{rows}", str(4 * times)))
        ids = [
            row[0] for row in await (await owner.execute("select id from seed.orders")).fetchall()
        ]
        waiting = [
            (await orders.place(ours, customer_id=ids[0], title="x")).id for _ in range(2 * times)
        ]
        await owner.execute("vacuum analyze seed.orders")
        await owner.execute("vacuum analyze orders.order")
        near = [
            (
                _take(ours, waiting[n], ids[n // 8]),  # nobody reaches the limit of work at once
                _as_the_seed(theirs, ids[4 * n], ids[n // 8]),
                _one_statement(owner, _COMPOUND, ids[n // 8], ids[4 * n + 1]),
                _one_statement(owner, _BARE, ids[n // 8], ids[4 * n + 2]),
            )
            for n in range(times)
        ]
        far = [
            (
                _take(far_ours, waiting[times + n], ids[-1 - n // 8]),
                _as_the_seed(far_theirs, ids[4 * n + 3], ids[-1 - n // 8]),
            )
            for n in range(times)
        ]
        return Ratios(*await _medians(near, tell), *await _medians(far, tell))


async def _medians(
    rounds: Sequence[tuple[Callable[[], Awaitable[object]], ...]], tell: Tell | None
) -> list[float]:
    """Time each way once a round; milliseconds.

    By lot: what runs just before a way warms or cools the caches it needs.
    """
    ways = range(len(rounds[0]))
    spent: list[list[float]] = [[] for _ in ways]
    for calls in rounds:
        for way in random.sample(ways, len(ways)):
            began = time.perf_counter()
            await calls[way]()
            spent[way].append(time.perf_counter() - began)
        if tell:
            tell(1)
    return [statistics.median(way) * 1000 for way in spent]


def _take(connection: Any, order: UUID, person: UUID) -> Callable[[], Awaitable[object]]:
    return lambda: orders.take(
        connection, order_id=order, operator_id=person, operator_name="someone"
    )


def _as_the_seed(connection: Any, order: UUID, person: UUID) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        async with connection.transaction():
            await connection.execute(_BARE, [person, order], prepare=True)
            await connection.execute(_AUDIT, [order, str(person), person], prepare=True)

    return run


def _one_statement(
    connection: Any, statement: str, person: UUID, order: UUID
) -> Callable[[], Awaitable[object]]:
    return lambda: connection.execute(statement, [person, order], prepare=True)


async def _connect(stack: AsyncExitStack, url: str) -> psycopg.AsyncConnection[Any]:
    return await stack.enter_async_context(
        await psycopg.AsyncConnection.connect(url, autocommit=True)
    )


async def _one(url: str, question: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute(question)).fetchone()
    return int(row[0]) if row else 0
