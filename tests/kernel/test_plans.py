"""Hot verbs find every row by an index: on tables that were empty when the plans were made, and
under a snapshot that keeps every dead row in the way."""

import asyncio
from uuid import UUID

import psycopg
import pytest

from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, stories

HOT = """
    select n.nspname || '.' || c.relname, coalesce(pg_stat_get_xact_numscans(c.oid), 0)
           + pg_stat_get_numscans(c.oid)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('ledger', 'queue', 'outbox', 'audit', 'idempotency')
      and c.relname not in ('price', 'kind', 'idle')
"""


async def _scans(owner: psycopg.AsyncConnection) -> dict[str, int]:
    """Full scans of each table so far, after the statistics of all sessions have arrived."""
    await owner.execute("select pg_stat_clear_snapshot()")
    return dict(await (await owner.execute(HOT)).fetchall())


async def _flush(db: Database) -> None:
    async with db.connection() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.execute("select 1")


@pytest.fixture
async def person(db: Database) -> UUID:
    await queue.declare_kind(db, queue.Kind("story", backoff=0.0))
    account = await accounts.sign_in(db, kind="dev", subject="ann")
    await ledger.grant(db, account_id=account.id, amount=1_000_000_000, key="g")
    return account.id


async def _submit(db: Database, person: UUID, n: int, tag: str) -> None:
    await queue.submit(
        db,
        [
            {"account_id": person, "kind": "story", "payload": {}, "price": 5, "key": f"{tag}{i}"}
            for i in range(n)
        ],
    )


async def _round(db: Database, person: UUID, tag: str) -> list[UUID]:
    """Every hot verb once, alone and in a batch; returns the jobs it claimed."""
    await stories.generate(db, account_id=person, prompt="x", key=tag)
    await _submit(db, person, 20, tag)
    await ledger.charge(db, account_id=person, amount=1, key=f"c{tag}")
    leases = await queue.claim(db, worker="worker:a", kinds=["story"], limit=12)
    await queue.heartbeat(db, [queue.Beat(x.id, x.token, {"done": 1}, "text") for x in leases])
    for lease in leases[:2]:
        await queue.finish(db, job_id=lease.id, token=lease.token, result={"text": "x"})
    await queue.fail(db, job_id=leases[2].id, token=leases[2].token, code="x", permanent=True)
    await queue.fail(db, job_id=leases[3].id, token=leases[3].token, code="x")
    await queue.cancel(db, job_id=leases[4].id, owners=[person], actor=str(person))
    await queue.hand_back(db, leases[5:])
    await queue.sweep(db)
    return [x.id for x in leases]


async def _reads(db: Database, person: UUID, tag: str) -> None:
    """The same, and what is looked at afterwards."""
    ids = await _round(db, person, tag)
    await queue.get(db, job_id=ids[0], owners=[person])
    await queue.list_of(db, owners=[person], limit=5)
    await queue.watch(db, {ids[1]: 0})
    await ledger.transactions(db, account_id=person, limit=5)


@pytest.mark.parametrize("held", [False, True], ids=["free", "held snapshot"])
async def test_no_hot_verb_ever_scans_a_table(db, owner, owner_url, person, held):
    """Plans are made while the tables are empty, and must still be right when they are full."""
    async with await psycopg.AsyncConnection.connect(owner_url) as holder:
        if held:
            await holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await holder.execute("select count(*) from queue.job")
        await _reads(db, person, "first")
        for n in range(6):
            await _submit(db, person, 1000, f"load{n}")
        every_time = None
        for tag in ("second", "third"):  # the server itself may look at a table now and then
            await _flush(db)
            before = await _scans(owner)
            await _reads(db, person, tag)
            await _flush(db)
            after = await _scans(owner)
            scanned = {name for name in after if after[name] != before[name]}
            every_time = scanned if every_time is None else every_time & scanned
        assert every_time == set()
        await holder.rollback()


async def test_no_hot_verb_reads_an_index_from_end_to_end(db, owner, person):
    """A table that was analysed while empty makes a scan of the whole index look free."""
    await owner.execute("analyze")
    others = [
        (await accounts.sign_in(db, kind="dev", subject=f"p{n}")).id for n in range(200)
    ]  # each with an open lot
    await _round(db, person, "first")
    for n in range(6):
        await _submit(db, person, 1000, f"load{n}")
    least = None
    for tag in ("second", "third"):
        await _flush(db)
        before = await _entries_read(owner)
        await _round(db, person, tag)
        for n, other in enumerate(others[:20]):
            await ledger.charge(db, account_id=other, amount=1, key=f"{tag}{n}")
        await _flush(db)
        after = await _entries_read(owner)
        read = {name: after[name] - before[name] for name in after}
        least = read if least is None else {name: min(least[name], read[name]) for name in read}
    assert {name: n for name, n in least.items() if n > 1000} == {}


async def test_a_sign_in_reads_nobody_elses_rows(db, owner):
    """Neither the first nor the next, on tables that were analysed while empty."""
    await owner.execute("analyze")
    await asyncio.gather(
        *(accounts.sign_in(db, kind="dev", subject=f"crowd{n}") for n in range(600))
    )
    await owner.execute(
        "insert into accounts.past_person (bucket, hash, at)"
        " select n % 256, sha256(int4send(n)), now() from generate_series(1, 2000) n"
    )
    await _flush(db)
    before = await _entries_read(owner)
    for n in range(20):
        await accounts.sign_in(db, kind="dev", subject=f"crowd{n}")
        await accounts.sign_in(db, kind="dev", subject=f"new{n}")
    await _flush(db)
    after = await _entries_read(owner)
    read = {name: after[name] - before[name] for name in after}
    assert {name: n for name, n in read.items() if n > 500} == {}


async def test_the_planner_never_sees_an_empty_queue(db, owner, person):
    """What it saw empty it joins the wrong way round, and keeps the plan for the next burst."""
    await _submit(db, person, 20, "few")
    for lease in await queue.claim(db, worker="worker:a", kinds=["story"], limit=20):
        await queue.finish(db, job_id=lease.id, token=lease.token, result={})
    await owner.execute("vacuum analyze queue.job_ready")
    known = await owner.execute(
        "select reltuples from pg_class where oid = 'queue.job_ready'::regclass"
    )
    assert (await known.fetchone())[0] >= 256
    assert await queue.claim(db, worker="worker:a", kinds=["story", ""], limit=20) == []
    assert await queue.sweep(db) == []


async def _entries_read(owner: psycopg.AsyncConnection) -> dict[str, int]:
    await owner.execute("select pg_stat_clear_snapshot()")
    return dict(
        await (
            await owner.execute(
                "select indexrelname, idx_tup_read from pg_stat_user_indexes"
                " where schemaname in ('ledger', 'queue', 'outbox', 'audit', 'idempotency',"
                " 'accounts')"
            )
        ).fetchall()
    )


async def test_one_verb_is_one_round_trip(db, person):
    async def trips(work) -> int:
        before = db.round_trips
        await work
        return db.round_trips - before

    assert await trips(stories.generate(db, account_id=person, prompt="x", key="k")) == 1
    assert await trips(_submit(db, person, 100, "many")) == 1
    before = db.round_trips
    [lease] = await queue.claim(db, worker="worker:a", kinds=["story"], limit=1)
    await queue.finish(db, job_id=lease.id, token=lease.token, result={})
    assert db.round_trips - before == 2


@pytest.mark.parametrize("size", [1, 10, 100, 1000])
@pytest.mark.parametrize("spread", [True, False], ids=["spread", "one account"])
async def test_batches_of_every_size(db, person, size, spread):
    people = [person]
    if spread:
        people = [
            (await accounts.sign_in(db, kind="dev", subject=f"p{n}")).id
            for n in range(min(size, 40))
        ]
    outcomes = await queue.submit(
        db,
        [
            {
                "account_id": people[n % len(people)],
                "kind": "story",
                "payload": {},
                "price": 1,
                "key": f"k{n}",
            }
            for n in range(size)
        ],
    )
    assert all(isinstance(o, queue.Submitted) for o in outcomes)
    assert len({o.id for o in outcomes}) == size
    leases = await queue.claim(db, worker="worker:a", kinds=["story"], limit=size)
    assert len(leases) == size


WRITTEN_AND_EAGER = """
    select t.schemaname || '.' || t.relname
    from pg_stat_user_tables t join pg_class c on c.oid = t.relid
    where t.schemaname in ('ledger', 'queue', 'outbox', 'audit', 'idempotency')
      and t.n_tup_ins + t.n_tup_upd + t.n_tup_del >= 12
      and not coalesce(c.reloptions::text, '') like '%autovacuum_analyze_threshold%'
"""


async def test_what_hot_verbs_write_is_not_sampled_at_every_turn(db, owner, person):
    """Their plans need no statistics, and a tenth of new rows comes together in a moment."""
    await _round(db, person, "a")
    await _flush(db)
    eager = [table for (table,) in await (await owner.execute(WRITTEN_AND_EAGER)).fetchall()]
    assert eager == []
