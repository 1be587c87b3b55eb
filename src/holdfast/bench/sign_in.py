"""Signing in: one statement for new and old, beside the seed's shape, in one run on one server.

The seed inserts the user on conflict, then makes the wallet, then looks for the bonus and pays it:
statements of their own on plain tables, each a round trip, each commit its own. Both sides have the
same number of clients, each with a connection, and take turns.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from holdfast.bench.ground import Ground
from holdfast.systems import accounts

CLIENTS = 16
Tell = Callable[[int], None]  # sign-ins done since the last call
Way = Callable[[int, str], Awaitable[object]]  # client, subject

_SEED = """
    create schema seed;
    create table seed.users (
        id uuid primary key default gen_random_uuid(), clerk_id text not null unique,
        created_at timestamptz not null default now(), updated_at timestamptz);
    create table seed.wallets (
        user_id uuid primary key references seed.users, balance bigint not null default 0);
    create table seed.transactions (
        id uuid primary key default gen_random_uuid(), user_id uuid not null references seed.users,
        amount bigint not null, description text not null,
        created_at timestamptz not null default now());
    create index on seed.transactions (user_id, created_at);
"""
_USER = """insert into seed.users (clerk_id) values (%s)
    on conflict (clerk_id) do update set updated_at = now() returning id"""
_WALLET = "insert into seed.wallets (user_id) values (%s) on conflict do nothing"
_BONUS = "select 1 from seed.transactions where user_id = %s and description = 'Welcome bonus'"
_PAY = """insert into seed.transactions (user_id, amount, description)
    values (%s, 100, 'Welcome bonus')"""
_CREDIT = "update seed.wallets set balance = balance + 100 where user_id = %s"
_BALANCE = "select balance from seed.wallets where user_id = %s"


@dataclass(frozen=True, slots=True)
class SignIns:
    """Sign-ins per second at 16 clients: medians over the rounds. The goal is 3 times the seed.

    `new_ratio` (first sign-ins) and `old_ratio` (of somebody known) are medians of each round's
    own: the machine may change its speed from one round to the next.
    """

    new: float
    old: float
    seed_new: float
    seed_old: float
    new_ratio: float
    old_ratio: float


async def measure(ground: Ground, people: int, rounds: int, tell: Tell | None = None) -> SignIns:
    """Sign `people` new ones in and then in again, by each way in turn, `rounds` times."""
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(await ground.open(combining=True, most=CLIENTS))
        clients = [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(ground.owner_url, autocommit=True)
            )
            for _ in range(CLIENTS)
        ]
        await clients[0].execute(_SEED)

        async def ours(_: int, subject: str) -> object:
            return await accounts.sign_in(db, kind="clerk", subject=subject)

        async def seed(client: int, subject: str) -> object:
            return await _as_the_seed(clients[client], subject)

        rates: dict[str, list[float]] = {}
        for turn in range(-1, rounds):  # the first one warms both up
            ways: list[tuple[str, Way]] = [("ours", ours), ("seed", seed)]
            for name, way in ways if turn % 2 else reversed(ways):
                for standing in ("new", "old"):
                    rate = await _rate(way, [f"user_{turn}_{n}" for n in range(people)])
                    if turn >= 0:
                        rates.setdefault(f"{name} {standing}", []).append(rate)
                    if tell:
                        tell(people)
    found = {name: median(seen) for name, seen in rates.items()}
    ratios = {
        standing: median(
            ours / seed
            for ours, seed in zip(rates[f"ours {standing}"], rates[f"seed {standing}"], strict=True)
        )
        for standing in ("new", "old")
    }
    return SignIns(
        found["ours new"], found["ours old"], found["seed new"], found["seed old"],
        ratios["new"], ratios["old"],
    )  # fmt: skip


async def _rate(way: Way, subjects: list[str]) -> float:
    """Have the clients share the subjects; returns sign-ins per second."""
    waiting = iter(subjects)

    async def client(number: int) -> None:
        for subject in waiting:
            await way(number, subject)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return len(subjects) / (time.perf_counter() - began)


async def _as_the_seed(connection: psycopg.AsyncConnection[Any], subject: str) -> object:
    cursor = await connection.execute(_USER, [subject])
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(_WALLET, [row[0]])
    if await (await connection.execute(_BONUS, [row[0]])).fetchone() is None:
        await connection.execute(_PAY, [row[0]])
        await connection.execute(_CREDIT, [row[0]])
    return await (await connection.execute(_BALANCE, [row[0]])).fetchone()
