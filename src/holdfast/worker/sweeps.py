"""What is looked after every few seconds: silence, deadlines, and whatever systems add."""

from collections.abc import Awaitable, Callable, Mapping

import structlog

from holdfast.kernel import ledger, queue
from holdfast.kernel.queue import Swept
from holdfast.postgres.pool import Database
from holdfast.systems import orders

_BATCH = 500

log = structlog.get_logger("holdfast.sweeper")


async def stalled_jobs(db: Database) -> int:
    """Move jobs whose lease or queue deadline has passed; tell each, as the other side does."""
    moved = 0
    while True:
        swept = await queue.sweep(db, limit=_BATCH)
        for one in swept:
            _tell(one)
        moved += len(swept)
        if len(swept) < _BATCH:
            return moved


def _tell(swept: Swept) -> None:
    told = {"job": str(swept.id), "kind": swept.kind, "account": str(swept.account_id),
            "attempt": swept.attempt}  # fmt: skip
    match swept.outcome:
        case "requeued":
            log.warning("no sign of life: the lease was taken away, the job is tried again", **told)
        case "expired":
            log.warning("no worker came in time: the job expired", **told, refunded=swept.refunded)
        case _:
            log.warning(
                "no sign of life at the last attempt: the job failed", **told,
                refunded=swept.refunded,
            )  # fmt: skip


async def silent_operators(db: Database) -> int:
    """Return orders to their desks whose holder is silent, and announce those that are late."""
    swept = await orders.sweep(db, limit=_BATCH)
    for one in swept.lapsed:
        log.info("no sign of life: the order went back to its desk", order=str(one.order_id),
                 operator=str(one.operator_id))  # fmt: skip
    return len(swept.lapsed) + len(swept.late)


async def ended_holds(db: Database) -> int:
    """Expire holds and lots whose time has passed."""
    return await ledger.sweep(db, limit=_BATCH)


Sweep = Callable[[Database], Awaitable[int]]

# Each returns how many rows it moved. A sweep that fails is tried again at the next round and
# keeps no other from its turn.
SWEEPS: Mapping[str, Sweep] = {
    "stalled jobs": stalled_jobs,
    "silent operators": silent_operators,
    "ended holds": ended_holds,
}
