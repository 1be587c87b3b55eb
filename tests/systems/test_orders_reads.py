"""Lists, trails, changes and lateness."""

import psycopg
import pytest

from holdfast.systems import orders
from systems.desk import Desk, code_of, make_desk


@pytest.fixture
async def desk(db, owner, new_account) -> Desk:
    return await make_desk(db, owner, new_account)


async def test_a_customer_sees_his_own_newest_first_page_by_page(desk):
    await orders.open_desk(desk.db, name="vip", role="admin")
    mine = [await desk.place(title=str(n), desk="vip" if n == 2 else "main") for n in range(5)]
    await desk.place(customer_id=desk.bob)
    ask = {"actor_id": desk.customer, "family": [desk.customer], "limit": 2}
    first = await orders.list_of_customer(desk.db, **ask)
    rest = await orders.list_of_customer(desk.db, **ask | {"limit": 9}, before=first[-1].id)
    assert [o.id for o in first + rest] == [o.id for o in reversed(mine)]
    (vip,) = await orders.list_of_customer(desk.db, **ask, desks=["vip"])
    assert vip.id == mine[2].id
    assert await orders.list_of_customer(desk.db, **ask, statuses=["COMPLETED"]) == []


async def test_aliases_orders_are_seen_as_ones_own(desk):
    placed = await desk.place()
    family = [desk.bob, desk.customer]
    (seen,) = await orders.list_of_customer(desk.db, actor_id=desk.bob, family=family)
    assert seen.id == placed.id
    cancelled = orders.cancel(desk.db, order_id=placed.id, actor_id=desk.bob, family=family)
    assert await code_of(cancelled) == "ok"


async def test_a_desk_is_listed_by_priority_then_age_page_by_page(desk):
    placed = [await desk.place(priority=p) for p in (0, 5, 9, 5, 0)]
    await desk.take(placed[1], desk.alice)
    wanted = [placed[n].id for n in (2, 1, 3, 0, 4)]
    ask = {"desk": "main", "actor_id": desk.alice, "role": "operator"}
    whole = await orders.list_of_desk(desk.db, **ask)
    assert [o.id for o in whole] == wanted
    paged, after = [], None
    while page := await orders.list_of_desk(desk.db, **ask, limit=2, after=after):
        paged += page
        after = (page[-1].priority, page[-1].id)
    assert [o.id for o in paged] == wanted
    waiting = await orders.list_of_desk(desk.db, **ask, statuses=["PENDING"])
    assert [o.id for o in waiting] == [w for w in wanted if w != placed[1].id]
    assert await code_of(orders.list_of_desk(desk.db, **ask | {"role": "user"})) == "forbidden"
    assert await code_of(orders.list_of_desk(desk.db, **ask | {"desk": "x"})) == "desk_not_found"


async def test_who_may_read_an_order_and_its_trail(desk):
    placed = await desk.place()
    ask = {"order_id": placed.id}
    assert await code_of(orders.get(desk.db, **ask, actor_id=desk.customer)) == "ok"
    assert await code_of(orders.get(desk.db, **ask, actor_id=desk.bob)) == "order_not_found"
    trail = {**ask, "actor_id": desk.customer, "role": "user"}
    assert await code_of(orders.audit_of(desk.db, **trail)) == "forbidden"
    (row,) = await orders.audit_of(desk.db, **ask, actor_id=desk.bob, role="operator")
    assert (row.action, row.from_status, row.to_status) == ("orders.place", None, "PENDING")


async def test_changes_tell_each_order_as_it_is_now(desk):
    start = (await orders.changes(desk.db)).horizon
    assert (await orders.changes(desk.db, since=start)).orders == ()
    taken = await desk.taken()
    waiting = await desk.place()
    seen = await orders.changes(desk.db, since=start)
    assert {(o.id, o.status) for o in seen.orders} == {
        (taken.id, "PROCESSING"),
        (waiting.id, "PENDING"),
    }
    await orders.heartbeat(desk.db, order_id=taken.id, operator_id=desk.alice)
    assert (await orders.changes(desk.db, since=seen.horizon)).orders == ()


async def test_a_change_that_commits_late_is_told_after_all(desk, app_url):
    """Whoever asks by a time or a number loses what began before him and ended after."""
    slow, quick = await desk.place(), await desk.place()
    since = (await orders.changes(desk.db)).horizon
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await orders.take(other, order_id=slow.id, operator_id=desk.bob)
        await desk.take(quick, desk.alice)
        seen = await orders.changes(desk.db, since=since)
        assert [(o.id, o.status) for o in seen.orders] == [(quick.id, "PROCESSING")]
        await other.commit()
    late = await orders.changes(desk.db, since=seen.horizon)
    assert (slow.id, "PROCESSING") in {(o.id, o.status) for o in late.orders}


async def test_a_late_order_is_announced_once_and_stays_visible(desk):
    usual, urgent = await desk.place(), await desk.place(priority=9)
    await desk.pass_time(400)
    swept = await orders.sweep(desk.db)
    assert [late.order_id for late in swept.late] == [urgent.id]
    assert (await orders.sweep(desk.db)).late == ()
    effects = await desk.rows(
        "select payload ->> 'order' from outbox.effect where topic = 'orders.breached'"
    )
    assert effects == [(str(urgent.id),)]
    seen = await orders.get(desk.db, order_id=urgent.id, actor_id=desk.customer)
    assert seen.breached_at is not None
    assert seen.version == urgent.version
    depth = {(d.desk, d.status): (d.orders, d.late) for d in await orders.depth(desk.db)}
    assert depth[("main", "PENDING")] == (2, 1)
    await desk.take(usual, desk.alice)
    await orders.complete(desk.db, order_id=usual.id, operator_id=desk.alice)
    await desk.pass_time(4000)
    assert (await orders.sweep(desk.db)).late == (), "what is done in time is not late"


async def test_hot_statements_find_their_rows_by_index(desk):
    await desk.owner.execute(
        """with made as (
               insert into orders.order
                   (bucket, id, desk_id, customer_id, title, due_at, created_at)
               select d.bucket, kernel.new_id(d.bucket), d.id, %s, 'x', kernel.now(), kernel.now()
               from orders.desk d, generate_series(1, 5000) returning bucket, id)
           insert into outbox.stream (bucket, stream) select * from made""",
        [desk.customer],
    )
    await desk.owner.execute("select pg_stat_force_next_flush()")
    before = await desk.rows(_SCANS)
    await orders.take_next(desk.db, operator_id=desk.alice)
    await orders.list_of_customer(desk.db, actor_id=desk.bob, family=[desk.bob])
    await orders.sweep_leases(desk.db)
    taken = await desk.place()
    await desk.take(taken, desk.bob)
    await desk.db.close()  # a session that ends has told its figures
    assert await desk.rows(_SCANS) == before


_SCANS = "select seq_scan from pg_stat_user_tables where relid = 'orders.order'::regclass"
