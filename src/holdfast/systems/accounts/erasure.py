"""Erasure: a person leaves; what was counted stays counted."""

from uuid import UUID

from holdfast.errors import Retryable, refusal
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Database, Handle

_TRIES = 5


async def erase(db: Handle, *, account_id: UUID, actor: str, request_id: str | None = None) -> None:
    """Erase a person with all his aliases. Raises NotFound, Retryable.

    Live jobs are cancelled with their refund, holds released, the rest forfeited; names, prompts,
    results and everything else that he wrote are gone. Tried again where a job was added meanwhile.
    """
    for attempt in range(_TRIES):
        try:
            row = await call_one(
                db,
                """select accounts.erase(account => %(account)s, actor => %(actor)s,
                    request_id => %(request)s) as code""",
                {"account": account_id, "actor": actor, "request": request_id},
            )
        except Retryable:
            if attempt == _TRIES - 1 or not isinstance(db, Database):
                raise  # a transaction of the caller's is over now: he must begin again
            continue
        if row["code"] != "ok":
            raise refusal(row["code"])
        return
