"""Erasure: a person leaves; what was counted stays counted."""

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from holdfast.errors import Retryable, refusal
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Database, Handle
from holdfast.systems.accounts.identity import Kind

_TRIES = 5


async def erase(db: Handle, *, account_id: UUID, actor: str, request_id: str | None = None) -> None:
    """Erase a person with all his aliases. Raises NotFound, Retryable.

    Live jobs are cancelled with their refund, holds released, the rest forfeited; names, prompts,
    results and everything else that he wrote are gone. Tried again where a job was added meanwhile.
    """
    await _patiently(
        db,
        """select accounts.erase(account => %(account)s, actor => %(actor)s,
            request_id => %(request)s) as code""",
        {"account": account_id, "actor": actor, "request": request_id},
    )


async def forget(
    db: Handle, *, kind: Kind, subject: str, actor: str, request_id: str | None = None
) -> None:
    """Erase whoever an identity leads to, as `erase` does. Raises NotFound, Retryable."""
    await _patiently(
        db,
        """select accounts.forget(kind => %(kind)s, subject => %(subject)s, actor => %(actor)s,
            request_id => %(request)s) as code""",
        {"kind": kind, "subject": subject, "actor": actor, "request": request_id},
    )


async def _patiently(db: Handle, sql: LiteralString, args: Mapping[str, Any]) -> None:
    for attempt in range(_TRIES):
        try:
            row = await call_one(db, sql, args)
        except Retryable:
            if attempt == _TRIES - 1 or not isinstance(db, Database):
                raise  # a transaction of the caller's is over now: he must begin again
            continue
        if row["code"] != "ok":
            raise refusal(row["code"])
        return
