"""Verify finds every broken promise it names, each broken here by hand as only a superuser can."""

import psycopg
import pytest

from holdfast.kernel import queue, verify

KIND = queue.Kind("work", backoff=0)


@pytest.fixture
async def lived(db, new_account) -> list:
    """A database in which each kind of end has happened; returns the jobs."""
    await queue.declare_kind(db, KIND)
    accounts = [await new_account() for _ in range(3)]
    bought = await queue.submit(
        db,
        [
            {"account_id": account, "kind": "work", "payload": {}, "price": 10, "key": f"{n}"}
            for n, account in enumerate(accounts * 2)
        ],
    )
    [done, failed, lost] = await queue.claim(db, worker="w", kinds=["work"], limit=3)
    await queue.finish(db, job_id=done.id, token=done.token, result={"text": "a"})
    await queue.fail(db, job_id=failed.id, token=failed.token, code="no", permanent=True)
    await queue.cancel(db, job_id=bought[4].id, owners=None, actor="admin")
    return [done.id, failed.id, lost.id, bought[4].id, bought[5].id]


@pytest.fixture
async def superuser(cluster, database):
    """A connection past every guard: what no program has, and a careless hand may."""
    server = cluster.embedded
    url = server.url(database=database) if server else cluster.owner_url(database)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("set session_replication_role = replica")
        yield connection


async def violated(db) -> dict[str, int]:
    return {one.name: one.violations for one in await verify.run(db) if one.violations}


async def test_a_database_that_lived_is_clean_and_looked_at(db, lived):
    steps = []
    found = await verify.run(db, lambda name, done, total: steps.append((done, total)))
    assert [one for one in found if one.violations] == []
    counts = {one.name: one.checked for one in found}
    assert counts["jobs_have_their_place"] == 6
    assert counts["charges_have_their_work"] == 6
    assert counts["failures_are_refunded_once"] == 6
    assert counts["refunds_reverse_a_charge"] == 2
    assert counts["ends_are_announced"] == 3
    assert counts["wallets_add_up"] == 3
    assert all(one.about for one in found)
    assert all(one.checked > 0 for one in found if "." not in one.name)
    assert steps[-1][0] + 1 == steps[-1][1]


BREAKS = {
    "wallets_add_up": ["update ledger.wallet set balance = balance + 1"],
    "entries_follow": ["update ledger.entry set balance_after = balance_after + 1 where seq = 2"],
    "lots_and_holds_add_up": ["update ledger.lot set remaining = remaining - 1"],
    "charges_have_their_work": ["delete from queue.job where status = 'processing'"],
    "failures_are_refunded_once": [
        "delete from ledger.entry where kind = 'refund' and cause = 'job:' ||"
        " (select id from queue.job where status = 'failed')"
    ],
    "refunds_reverse_a_charge": ["update ledger.entry set amount = 11 where kind = 'refund'"],
    "jobs_have_their_place": ["delete from queue.job_ready where token is null"],
    "moves_are_declared": [
        "update audit.event set from_status = 'completed' where to_status = 'failed'"
    ],
    "job_trails_are_whole": ["delete from audit.event where to_status = 'cancelled'"],
    "effects_are_in_order": ["delete from outbox.effect where topic = 'jobs.queued' and seq = 1"],
    "ends_are_announced": ["delete from outbox.effect where topic = 'jobs.completed'"],
    "guards_stand": ["alter table queue.job disable trigger guard_move"],
}


@pytest.mark.parametrize("promise", BREAKS)
async def test_a_broken_promise_is_found(db, lived, superuser, promise):
    for statement in BREAKS[promise]:
        changed = await superuser.execute(statement)
        assert changed.rowcount != 0
    found = await violated(db)
    assert found.get(promise, 0) > 0


async def test_every_invariant_can_fail(db):
    """No promise is counted that this file does not break."""
    kernels = {one.name for one in await verify.run(db) if "." not in one.name}
    assert kernels == set(BREAKS)


async def test_mend_refunds_and_queues_again_by_entries_that_say_why(db, lived, superuser, owner):
    _, _, _, failed, waiting = lived
    await superuser.execute("delete from queue.job_ready where id = %s", [waiting])
    await superuser.execute(
        "with gone as (delete from ledger.entry where kind = 'refund' and cause = 'job:' || %s"
        "  returning *), lots as (update ledger.lot l set remaining = l.remaining - b.value::int"
        "  from gone g, jsonb_each_text(g.lots) b where l.id = b.key::uuid)"
        " update ledger.wallet w set balance = w.balance - g.amount, seq = w.seq - 1"
        " from gone g where w.account_id = g.account_id",
        [str(failed)],
    )
    await superuser.execute("update queue.job set refund_seq = null where id = %s", [failed])
    assert set(await violated(db)) == {"failures_are_refunded_once", "jobs_have_their_place"}
    for one in await verify.mendable(owner):
        await verify.mend(owner, job_id=one.job_id, actor="cli:me", reason="restored a backup")
    assert await violated(db) == {}
    assert await verify.mendable(owner) == []
    told = await owner.execute("select count(*) from ledger.entry where reason ~ 'a backup'")
    assert await told.fetchone() == (1,)


async def test_the_application_cannot_mend(app_url, lived):
    async with await psycopg.AsyncConnection.connect(app_url) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select verify._mend(%s, 'me', 'why')", [lived[0]])
