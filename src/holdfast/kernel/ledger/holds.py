"""Holds: credit promised to work that is queued elsewhere (Celery, SQS, a person)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.errors import NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle, Row


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold: OPEN, CAPTURED, RELEASED or EXPIRED. `captured` of `amount` was taken."""

    id: UUID
    status: str
    amount: int
    captured: int
    expires_at: datetime
    replayed: bool = False


def _hold(row: Row, asked: int | None = None) -> Hold:
    if row["code"] == "insufficient_tokens":
        raise refusal(row["code"], needed=row["needed"], available=row["available"])
    if row["code"] != "ok":
        raise refusal(row["code"], status=row["status"], held=row["amount"], asked=asked)
    return Hold(**{name: row[name] for name in Hold.__slots__})


async def hold(
    db: Handle,
    *,
    account_id: UUID,
    amount: int,
    ttl: float,
    cause: str,
    key: str,
    request_id: str | None = None,
) -> Hold:
    """Reserve `amount` for `ttl` seconds of the database's time, once per key.

    Raises InsufficientTokens (needed, available; the key stays free), IdempotencyKeyReused,
    NotFound.
    """
    row = await call_one(
        db,
        """select * from ledger.hold(account => %(account)s, amount => %(amount)s,
            ttl_seconds => %(ttl)s, cause => %(cause)s, key => %(key)s,
            request_id => %(request)s)""",
        {
            "account": account_id,
            "amount": amount,
            "ttl": ttl,
            "cause": cause,
            "key": key,
            "request": request_id,
        },
    )
    return _hold(row)


async def capture(
    db: Handle,
    *,
    hold_id: UUID,
    amount: int,
    owners: Sequence[UUID] | None = None,
    key: str | None = None,
    request_id: str | None = None,
) -> Hold:
    """Take `amount` of an open hold and give the rest back. `owners` None: anybody's hold.

    Raises HoldFinished (status: captured, released or expired before), CaptureExceedsHold,
    IdempotencyKeyReused, NotFound.
    """
    row = await call_one(
        db,
        """select * from ledger.capture(hold => %(hold)s, owners => %(owners)s::uuid[],
            taken => %(amount)s, key => %(key)s, request_id => %(request)s)""",
        {
            "hold": hold_id,
            "owners": None if owners is None else list(owners),
            "amount": amount,
            "key": key,
            "request": request_id,
        },
    )
    return _hold(row, amount)


async def release(
    db: Handle,
    *,
    hold_id: UUID,
    owners: Sequence[UUID] | None = None,
    key: str | None = None,
    request_id: str | None = None,
) -> Hold:
    """Give an open hold back, whole. Raises HoldFinished, IdempotencyKeyReused, NotFound."""
    row = await call_one(
        db,
        """select * from ledger.release(hold => %(hold)s, owners => %(owners)s::uuid[],
            key => %(key)s, request_id => %(request)s)""",
        {
            "hold": hold_id,
            "owners": None if owners is None else list(owners),
            "key": key,
            "request": request_id,
        },
    )
    return _hold(row)


async def hold_of(db: Handle, *, hold_id: UUID, owners: Sequence[UUID] | None = None) -> Hold:
    """Return one hold of these accounts (None: anybody's). Raises NotFound."""
    rows = await call(
        db,
        """select id, status, amount, captured, expires_at
            from ledger.hold_of(hold => %(hold)s, owners => %(owners)s::uuid[])""",
        {"hold": hold_id, "owners": None if owners is None else list(owners)},
    )
    if not rows:
        raise NotFound
    return Hold(**rows[0])


async def sweep(db: Handle, *, limit: int = 500) -> int:
    """Expire holds and lots that are due; returns how many.

    Every verb does so for the wallet it locks; this tidies the others.
    """
    row = await call_one(db, "select ledger.sweep(at_most => %(limit)s) as done", {"limit": limit})
    return int(row["done"])
