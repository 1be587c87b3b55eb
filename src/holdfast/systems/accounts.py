"""Accounts: who is asking, one account per person, one wallet, one welcome bonus."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from holdfast.errors import NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle, Row

Role: TypeAlias = Literal["user", "operator", "supervisor", "admin"]


@dataclass(frozen=True, slots=True)
class Account:
    """One account and its wallet of crystals. `created` is true for the sign-in that made it."""

    id: UUID
    status: str
    role: Role
    name: str | None
    locale: str
    time_zone: str
    created_at: datetime
    balance: int
    held: int
    created: bool = False


def _account(row: Row) -> Account:
    return Account(
        id=row["account_id"],
        status=row["status"],
        role=row["role"],
        name=row["name"],
        locale=row["locale"],
        time_zone=row["time_zone"],
        created_at=row["created_at"],
        balance=row["balance"],
        held=row["held"],
        created=row.get("created", False),
    )


async def sign_in(
    db: Handle, *, kind: Literal["clerk", "device", "dev"], subject: str, name: str | None = None
) -> Account:
    """Return the account of a verified identity; made, with wallet and bonus, when it is new.

    One round trip either way.
    """
    row = await call_one(
        db,
        """select * from accounts.sign_in(kind => %(kind)s, subject => %(subject)s,
            called => %(name)s)""",
        {"kind": kind, "subject": subject, "name": name},
    )
    return _account(row)


async def get(db: Handle, *, account_id: UUID) -> Account:
    """Return one account. Raises NotFound."""
    rows = await call(
        db, "select * from accounts.get(account => %(account)s)", {"account": account_id}
    )
    if not rows:
        raise NotFound
    return _account(rows[0])


async def set_role(
    owner: Handle, *, account_id: UUID, role: Role, actor: str, request_id: str | None = None
) -> None:
    """Give an account a role, audited. Needs the owner's connection. Raises NotFound."""
    row = await call_one(
        owner,
        """select accounts._set_role(account => %(account)s, new_role => %(role)s,
            actor => %(actor)s, request => %(request)s) as code""",
        {"account": account_id, "role": role, "actor": actor, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
