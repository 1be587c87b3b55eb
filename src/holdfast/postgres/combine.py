"""The combiner: concurrent calls of one verb travel together.

While one call of a verb is in flight, the calls that arrive wait and leave as one: one round trip,
one commit, each locked row locked once. Nobody waits for company: a lone call leaves at once.

Where members say whose row they lock (`by`), two calls may be in flight, each with its share: while
the server works on one, the callers of the other are served. Members of the same row are never in
both: they travel together, or the later ones wait.

Every caller gets its own outcome after its own commit, and nobody suffers for another:

* a member whose row somebody's open transaction holds comes back 'busy' and is tried aside;
* a batch that raises was rolled back, and is run again in halves, down to the member that raises;
* after a lost connection the batch is run again: members carry keys, so once stays once;
* a caller that is cancelled takes nothing with it.
"""

import asyncio
import copy
import random
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg

from holdfast.errors import BrokenPromise, HoldfastError, Retryable, Unavailable
from holdfast.postgres.call import call
from holdfast.postgres.failures import connection_lost
from holdfast.postgres.pool import Database, Handle, Row

BUSY = "busy"
_PATIENCE = 5.0  # seconds for a locked row, and for a database that went away
_RETRIES = 3  # of a batch that met another transaction (deadlock, serialization)
_ASIDE_FIRST, _ASIDE_MOST = 0.005, 0.1  # seconds between two tries of what is locked
_FLIGHTS = 2  # of a verb at once, where its members say whose row they lock
_TRIES_ASIDE = 2  # then it queues for the lock, alone, with a connection of its own


@dataclass(frozen=True, slots=True)
class BatchVerb:
    """A verb over parallel arrays.

    `sql` calls it with one named argument per column (`%(accounts)s::uuid[]`), the `constants`,
    and `wait => %(wait)s`. It returns rows with `ord` (position in the arrays, from 1) and `code`:
    'ok', a refusal's code, or, where `wait` is false, 'busy' for a locked row. `most` members
    travel together. `by`: the column that says whose row a member locks, where every member locks
    one only. `keyed=False`: no member may be run again when nobody knows whether it was.
    """

    name: str
    sql: LiteralString
    columns: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict, hash=False)
    most: int = 500
    by: str | None = None
    keyed: bool = True

    def arguments(self, members: Sequence[Mapping[str, Any]], *, wait: bool) -> dict[str, Any]:
        """Return the statement's arguments: an array for each column."""
        made: dict[str, Any] = dict(self.constants)
        for column in self.columns:
            made[column] = [member[column] for member in members]
        made["wait"] = wait
        return made


async def submit(db: Handle, verb: BatchVerb, member: Mapping[str, Any]) -> Row:
    """Run one member, together with others where `db` combines; returns its own row.

    Raises what `call` raises; Retryable where its row stayed locked for five seconds.
    """
    if not isinstance(db, Database) or not db.combining:
        return (await _run(db, verb, [member], wait=True))[0]
    lane = db.lanes.get(verb)
    if lane is None:
        lane = db.lanes[verb] = _Lane(db, verb)
        db.before_close(lane.drain)
    return await lane.add(member)


async def submit_many(
    db: Handle, verb: BatchVerb, members: Sequence[Mapping[str, Any]]
) -> list[Row]:
    """Run members in batches; returns their rows in the same order.

    On a Database each member stands for itself, as in `submit`; when all are settled, the first
    error is raised. On a connection all are one with the caller's transaction.
    """
    if not isinstance(db, Database):
        rows: list[Row] = []
        for start in range(0, len(members), verb.most):
            rows += await _run(db, verb, members[start : start + verb.most], wait=True)
        return rows
    lane = _Lane(db, verb)
    futures = [lane.add(member) for member in members]
    settled = await asyncio.gather(*futures, return_exceptions=True)
    for outcome in settled:
        if isinstance(outcome, BaseException):
            raise outcome
    return [row for row in settled if isinstance(row, dict)]


async def _run(
    db: Handle, verb: BatchVerb, members: Sequence[Mapping[str, Any]], *, wait: bool
) -> list[Row]:
    """Run members in one call; their rows in their order."""
    rows = await call(db, verb.sql, verb.arguments(members, wait=wait))
    found: list[Row | None] = [None] * len(members)
    for row in rows:
        found[row["ord"] - 1] = row
    complete = [row for row in found if row is not None]
    if len(complete) != len(members) or len(rows) != len(members):
        raise BrokenPromise(reason=f"{verb.name}: {len(rows)} rows for {len(members)} members")
    return complete


@dataclass(slots=True, eq=False)
class _Member:
    values: Mapping[str, Any]
    row: Any  # whose it locks; None where its verb does not say
    future: asyncio.Future[Row]
    until: float = field(default_factory=lambda: time.monotonic() + _PATIENCE)
    tries: int = 0

    def answer(self, row: Row) -> None:
        if not self.future.done():  # its caller may have gone
            self.future.set_result(row)

    def fail(self, problem: HoldfastError) -> None:
        if not self.future.done():
            own = copy.copy(problem)  # raised in many tasks: each needs its own traceback
            own.__cause__ = problem.__cause__
            self.future.set_exception(own)


def _rolled_back(problem: HoldfastError) -> bool:
    """Whether the database refused the call, so that nothing of it was written."""
    outage = isinstance(problem, Unavailable) and not isinstance(problem, Retryable)
    return isinstance(problem.__cause__, psycopg.Error) and not outage


class _Lane:
    """One verb of one Database: who waits, who is in flight, who is tried aside."""

    def __init__(self, db: Database, verb: BatchVerb) -> None:
        self._db = db
        self._verb = verb
        self._waiting: deque[_Member] = deque()
        self._busy: list[_Member] = []
        self._flights = _FLIGHTS if verb.by else 1
        self._flying = 0
        self._aloft = 0  # members in flight
        self._rows_aloft: set[Any] = set()  # whose rows they lock
        self._aside = False
        self._alone = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, values: Mapping[str, Any]) -> asyncio.Future[Row]:
        """Take a member; its future is its own outcome."""
        loop = asyncio.get_running_loop()
        row = values[self._verb.by] if self._verb.by else None
        member = _Member(values, row, loop.create_future())
        self._waiting.append(member)
        self._depart()
        return member.future

    async def drain(self) -> None:
        """Wait until everything that was taken is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"combine {self._verb.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _depart(self) -> None:
        if self._flying < self._flights:
            self._flying += 1
            self._start(self._fly())

    async def _fly(self) -> None:
        """Take what waits, batch after batch, until nobody waits who may leave."""
        try:
            while batch := self._board():
                if self._waiting:
                    self._depart()
                rows = {member.row for member in batch}
                self._rows_aloft |= rows
                self._aloft += len(batch)
                try:
                    await self._settle(batch)
                finally:
                    self._rows_aloft -= rows
                    self._aloft -= len(batch)
                # Who was answered and asks again at once belongs to the next share: without them
                # it is half of those who waited meanwhile, and the calls become many and small.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for member in self._waiting:
                member.future.cancel()
            raise
        finally:
            self._flying -= 1

    def _board(self) -> list[_Member]:
        """Take from who waits, in their order: a share, and whoever shares a row with it."""
        share = -(-(len(self._waiting) + self._aloft) // self._flights)
        batch, rows, left = list[_Member](), set[Any](), deque[_Member]()
        for member in self._waiting:
            if member.future.cancelled():
                continue
            if (
                member.row in self._rows_aloft
                or len(batch) >= self._verb.most
                or (len(batch) >= share and member.row not in rows)
            ):
                left.append(member)
            else:
                batch.append(member)
                rows.add(member.row)
        self._waiting = left
        return batch

    async def _settle(self, batch: list[_Member]) -> None:
        """Give every member its outcome, or put it aside. Raises only when cancelled."""
        try:
            rows = await self._patiently(batch)
        except HoldfastError as problem:
            if _rolled_back(problem):
                await self._divide(batch, problem)
            else:
                for member in batch:
                    member.fail(problem)
        except asyncio.CancelledError:
            for member in batch:
                member.future.cancel()
            raise
        except Exception as problem:  # noqa: BLE001 - nobody may be left waiting
            for member in batch:
                if not member.future.done():
                    member.future.set_exception(problem)
        else:
            self._tell(batch, rows)

    async def _divide(self, batch: list[_Member], problem: HoldfastError) -> None:
        """Run a batch that raised again in halves: only the member that raises fails."""
        if len(batch) == 1:
            batch[0].fail(problem)
            return
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    async def _patiently(self, batch: list[_Member]) -> list[Row]:
        """Run a batch; again where it met another transaction or lost its connection."""
        members = [member.values for member in batch]
        until, met = time.monotonic() + _PATIENCE, 0
        while True:
            try:
                return await _run(self._db, self._verb, members, wait=False)
            except Retryable:
                met += 1
                if met > _RETRIES:
                    raise
            except Unavailable as problem:
                again = self._verb.keyed and connection_lost(problem.__cause__)
                if not again or time.monotonic() > until:
                    raise
            await asyncio.sleep(random.uniform(0.001, 0.02))

    def _tell(self, batch: list[_Member], rows: list[Row]) -> None:
        for member, row in zip(batch, rows, strict=True):
            if row["code"] != BUSY:
                member.answer(row)
            elif not member.future.done():
                self._busy.append(member)
        if self._busy and not self._aside:
            self._aside = True
            self._start(self._keep_trying())

    async def _keep_trying(self) -> None:
        """Try what was locked again, together and soon; what stays locked, alone.

        Together finds most: another server's batch held the row for a few milliseconds. Alone a
        member queues for the lock, so that it is not for ever behind those that do; a quarter of
        the connections at most wait that way.
        """
        pause = _ASIDE_FIRST
        try:
            while self._busy:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _ASIDE_MOST)
                batch, self._busy = self._busy[: self._verb.most], self._busy[self._verb.most :]
                await self._settle([member for member in batch if not self._placed(member)])
        finally:
            self._aside = False
            for member in self._busy:
                member.future.cancel()

    def _placed(self, member: _Member) -> bool:
        """Whether a member needs no further try together."""
        if member.future.done():
            return True
        if time.monotonic() > member.until:
            member.fail(Retryable())
            return True
        member.tries += 1
        if member.tries <= _TRIES_ASIDE or self._alone >= max(1, self._db.size // 4):
            return False
        self._alone += 1
        self._start(self._queue_for_lock(member))
        return True

    async def _queue_for_lock(self, member: _Member) -> None:
        left = max(1, round((member.until - time.monotonic()) * 1000))
        try:
            async with self._db.transaction() as connection:
                await call(
                    connection, "select set_config('lock_timeout', %(ms)s, true)", {"ms": str(left)}
                )
                rows = await _run(connection, self._verb, [member.values], wait=True)
            member.answer(rows[0])
        except HoldfastError as problem:
            if self._verb.keyed and connection_lost(problem.__cause__):
                self._tell([member], [{"code": BUSY}])  # once more, with the others
            else:
                member.fail(problem)
        except BaseException:
            member.future.cancel()
            raise
        finally:
            self._alone -= 1
