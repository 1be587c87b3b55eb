"""The ledger's verbs. The rules are in the .sql files beside this one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from holdfast.errors import NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.combine import BatchVerb
from holdfast.postgres.combine import submit as combined
from holdfast.postgres.pool import Handle

CHARGE = BatchVerb(
    name="ledger.charge",
    sql="""select * from ledger.charge(accounts => %(accounts)b::uuid[],
        amounts => %(amounts)b::bigint[], keys => %(keys)b::text[], causes => %(causes)b::text[],
        request_ids => %(request_ids)b::text[], wait => %(wait)s)""",
    columns=("accounts", "amounts", "keys", "causes", "request_ids"),
    by="accounts",
)


@dataclass(frozen=True, slots=True)
class Wallet:
    """What an account has of one asset; `available` is what is not held."""

    balance: int
    held: int
    available: int


@dataclass(frozen=True, slots=True)
class Charged:
    """A charge. `entry_id` names it for a refund; `replayed`: its key was used before."""

    entry_id: UUID
    replayed: bool


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An adjustment, as the entry it made."""

    entry_id: UUID
    balance: int
    held: int
    at: datetime
    replayed: bool
    cause: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement. `amount` is the signed change of the balance, so Σ amount = balance."""

    id: UUID
    seq: int
    kind: str
    amount: int
    balance_after: int
    held_after: int
    contra: str
    cause: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Price:
    """What a kind costs: `amount` for every started `per` units."""

    kind: str
    amount: int
    per: int
    unit: str
    version: int


async def charge(
    db: Handle,
    *,
    account_id: UUID,
    amount: int,
    key: str,
    cause: str | None = None,
    request_id: str | None = None,
) -> Charged:
    """Charge an account once per key.

    Raises InsufficientTokens (needed, available; the key stays free), IdempotencyKeyReused,
    NotFound, Retryable.
    """
    row = await combined(
        db,
        CHARGE,
        {
            "accounts": account_id,
            "amounts": amount,
            "keys": key,
            "causes": cause,
            "request_ids": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"], needed=row["needed"], available=row["available"])
    return Charged(row["entry_id"], row["replayed"])


async def refund(
    db: Handle,
    *,
    account_id: UUID,
    entry_id: UUID,
    reason: str,
    actor: str | None = None,
    request_id: str | None = None,
) -> bool:
    """Give a charge back, whole. False when it was refunded before. Raises NotFound."""
    row = await call_one(
        db,
        """select * from ledger.refund(account => %(account)s, entry_id => %(entry)s,
            reason => %(reason)s, actor => %(actor)s, request_id => %(request)s)""",
        {
            "account": account_id,
            "entry": entry_id,
            "reason": reason,
            "actor": actor,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return not row["replayed"]


async def grant(
    db: Handle,
    *,
    account_id: UUID,
    amount: int,
    key: str,
    kind: Literal["bought", "promotional"] = "bought",
    expires_at: datetime | None = None,
    priority: int = 0,
    reason: str | None = None,
    actor: str | None = None,
    request_id: str | None = None,
) -> int:
    """Add a lot of credit, once per key; returns the balance. Smaller `priority` burns first.

    Raises NotFound.
    """
    row = await call_one(
        db,
        """select * from ledger.grant(account => %(account)s, amount => %(amount)s,
            kind => %(kind)s, key => %(key)s, priority => %(priority)s,
            expires_at => %(expires_at)s, actor => %(actor)s, reason => %(reason)s,
            request_id => %(request)s)""",
        {
            "account": account_id,
            "amount": amount,
            "kind": kind,
            "key": key,
            "priority": priority,
            "expires_at": expires_at,
            "actor": actor,
            "reason": reason,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return int(row["balance"])


async def adjust(
    db: Handle,
    *,
    account_id: UUID,
    amount: int,
    reason: str,
    key: str,
    actor: str,
    request_id: str | None = None,
) -> Adjusted:
    """Correct a balance, as an admin, with a reason, once per key.

    Raises BalanceBelowFloor, IdempotencyKeyReused, NotFound.
    """
    row = await call_one(
        db,
        """select * from ledger.adjust(account => %(account)s, amount => %(amount)s,
            reason => %(reason)s, key => %(key)s, actor => %(actor)s,
            request_id => %(request)s)""",
        {
            "account": account_id,
            "amount": amount,
            "reason": reason,
            "key": key,
            "actor": actor,
            "request": request_id,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return Adjusted(
        row["entry_id"],
        row["balance"],
        row["held"],
        row["at"],
        row["replayed"],
        row["cause"],
    )


async def wallet_of(db: Handle, *, account_id: UUID) -> Wallet:
    """Return an account's wallet. Raises NotFound."""
    rows = await call(
        db, "select * from ledger.wallet_of(account => %(account)s)", {"account": account_id}
    )
    if not rows:
        raise NotFound
    return Wallet(**rows[0])


async def transactions(
    db: Handle, *, account_id: UUID, before: int | None = None, limit: int = 50
) -> list[Entry]:
    """Return movements, newest first, those with a `seq` below `before`."""
    rows = await call(
        db,
        """select * from ledger.transactions(account => %(account)s, before => %(before)s,
            at_most => %(limit)s)""",
        {"account": account_id, "before": before, "limit": limit},
    )
    return [Entry(**{name: row[name] for name in Entry.__slots__}) for row in rows]


async def prices(db: Handle) -> list[Price]:
    """Return the current price of every kind that has one."""
    return [Price(**row) for row in await call(db, "select * from ledger.prices()")]
