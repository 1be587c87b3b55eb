"""What the tests of the order desk share: people, orders, and a clock they can move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from holdfast.errors import HoldfastError
from holdfast.postgres.pool import Database
from holdfast.systems import orders
from holdfast.systems.orders import Order

MakeAccount = Callable[[], Awaitable[UUID]]


@dataclass
class Desk:
    """A desk with people at it, seen through the public verbs."""

    db: Database
    owner: psycopg.AsyncConnection[Any]
    new_account: MakeAccount
    customer: UUID
    alice: UUID
    bob: UUID
    chief: UUID

    async def place(self, **given: Any) -> Order:
        given = {"customer_id": self.customer, "title": "A parcel", **given}
        return await orders.place(self.db, **given)

    async def take(self, order: Order, operator: UUID, name: str = "Alice", **given: Any) -> Order:
        return await orders.take(
            self.db, order_id=order.id, operator_id=operator, operator_name=name, **given
        )

    async def taken(self, **given: Any) -> Order:
        return await self.take(await self.place(**given), self.alice)

    async def pass_time(self, seconds: float) -> None:
        """Shift the clock of the database: no test waits for a lease."""
        await self.owner.execute(
            "update kernel.clock set shift = shift + make_interval(secs => %s)", [seconds]
        )

    async def rows(self, question: str, *values: Any) -> list[Any]:
        cursor = await self.owner.execute(question, values or None)
        return await cursor.fetchall()


async def make_desk(
    db: Database, owner: psycopg.AsyncConnection[Any], new_account: MakeAccount
) -> Desk:
    people = [await new_account() for _ in range(4)]
    return Desk(db, owner, new_account, *people)


async def code_of(attempt: Awaitable[object]) -> str:
    """`ok`, or the code of the refusal that an attempt raised."""
    try:
        await attempt
    except HoldfastError as refused:
        return refused.code
    return "ok"
