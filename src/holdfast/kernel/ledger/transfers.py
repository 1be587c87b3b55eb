"""Transfers: credit that follows its owner when an account becomes an alias of another."""

from uuid import UUID

from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Handle

FORWARD = "ledger.forward"  # the topic of the effect that asks for it


async def forward(db: Handle, *, account_id: UUID) -> int:
    """Bring what landed in an alias's wallet to the account it was linked to; returns how much.

    At once or again, after any crash: what is there is moved, once.
    """
    row = await call_one(
        db, "select ledger.forward(account => %(account)s) as moved", {"account": account_id}
    )
    return int(row["moved"])
