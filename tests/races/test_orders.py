"""The order desk under contention: real connections, no sleeps."""

import asyncio
import random

import psycopg
import pytest

from holdfast.errors import HoldfastError
from holdfast.postgres.pool import Database
from holdfast.systems import orders
from systems.desk import Desk, code_of, make_desk


@pytest.fixture
async def desk(app_url, owner, new_account):
    async with await Database.open(app_url, max_size=24) as wide:
        yield await make_desk(wide, owner, new_account)


async def test_contended_takes_never_assign_twice(desk):
    await orders.open_desk(desk.db, name="main", role="admin", wip_limit=10_000)
    operators = [await desk.new_account() for _ in range(16)]
    placed = await asyncio.gather(*(desk.place() for _ in range(150)))
    won: dict[object, list[object]] = {order.id: [] for order in placed}
    lost: set[tuple[str, str]] = set()

    async def take_all(operator):
        for order in random.sample(placed, len(placed)):
            try:
                taken = await desk.take(order, operator, f"op {operator}")
            except HoldfastError as refused:
                lost.add((refused.code, refused.facts["holder"]["name"][:3]))
            else:
                won[taken.id].append(operator)

    await asyncio.gather(*(take_all(operator) for operator in operators))
    assert lost == {("order_already_assigned", "op ")}
    assert all(len(winners) == 1 for winners in won.values())
    rows = await desk.rows(
        "select o.id, o.assigned_operator_id, (select count(*) from audit.event e"
        "  where e.entity_id = o.id and e.action = 'ASSIGNED_TO_OPERATOR'),"
        " (select count(*) from outbox.effect f where f.topic = 'orders.taken'"
        "  and f.payload ->> 'order' = o.id::text) from orders.order o"
    )
    assert {row[0]: [row[1]] for row in rows} == won
    assert {row[2:] for row in rows} == {(1, 1)}


async def test_twenty_workers_on_twenty_orders_one_of_them_killed(desk, app_url):
    placed = [await desk.place(priority=random.randint(0, 9)) for _ in range(20)]
    operators = [await desk.new_account() for _ in range(20)]
    async with await psycopg.AsyncConnection.connect(app_url) as dying:
        first = await orders.take_next(dying, operator_id=operators[0])
        best = max(placed, key=lambda order: (order.priority, -placed.index(order)))
        assert first.id == best.id
        got = await asyncio.gather(
            *(orders.take_next(desk.db, operator_id=o) for o in operators[1:])
        )
        assert None not in got
        assert len({order.id for order in got} | {first.id}) == 20
        await desk.owner.execute("select pg_terminate_backend(%s)", [dying.info.backend_pid])
        last = None
        async with asyncio.timeout(10):  # until the server has noticed and rolled back
            while last is None:
                last = await orders.take_next(desk.db, operator_id=operators[0])
        with pytest.raises(psycopg.OperationalError):
            await dying.execute("select 1")
    assert last.id == first.id
    assert await orders.take_next(desk.db, operator_id=operators[0]) is None


async def test_the_limit_of_work_holds_under_fifty_takes_at_once(desk):
    await orders.open_desk(desk.db, name="main", role="admin", wip_limit=7)
    placed = await asyncio.gather(*(desk.place() for _ in range(50)))
    codes = await asyncio.gather(
        *(
            code_of(desk.take(order, desk.alice))
            if n % 2
            else code_of(orders.take_next(desk.db, operator_id=desk.alice))
            for n, order in enumerate(placed)
        )
    )
    (held,) = await desk.rows(
        "select count(*) from orders.order where assigned_operator_id = %s"
        " and status = 'PROCESSING'",
        desk.alice,
    )
    assert held == (7,)
    assert set(codes) == {"ok", "wip_limit_reached"}


@pytest.mark.parametrize("beat_first", [True, False])
async def test_of_a_sign_of_life_and_a_sweep_exactly_one_wins(desk, app_url, beat_first):
    """Both orders of the lock: the one holds it while the other is seen waiting, or skips."""
    taken = await desk.taken()
    await desk.pass_time(901)
    beat = {"order_id": taken.id, "operator_id": desk.alice}
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        if beat_first:
            await orders.heartbeat(other, **beat)
            assert await orders.sweep_leases(desk.db) == [], "the sweep passes by a locked order"
            await other.commit()
            assert await orders.sweep_leases(desk.db) == [], "and finds it alive"
        else:
            assert len(await orders.sweep_leases(other)) == 1
            waiting = asyncio.create_task(code_of(orders.heartbeat(desk.db, **beat)))
            await _until_somebody_waits(desk)
            await other.commit()
            assert await waiting == "lease_lost"
    (row,) = await desk.rows("select status from orders.order")
    assert row == ("PROCESSING" if beat_first else "PENDING",)


async def test_many_sweeps_and_beats_leave_one_story(desk):
    for _ in range(15):
        taken = await desk.taken()
        await desk.pass_time(901)
        beat = orders.heartbeat(desk.db, order_id=taken.id, operator_id=desk.alice)
        swept, code = await asyncio.gather(orders.sweep_leases(desk.db), code_of(beat))
        lost = taken.id in {lapsed.order_id for lapsed in swept}
        assert code == ("lease_lost" if lost else "ok")
        (row,) = await desk.rows("select status from orders.order where id = %s", taken.id)
        assert row == ("PENDING" if lost else "PROCESSING",)
        await orders.cancel(desk.db, order_id=taken.id, actor_id=desk.chief, role="admin")


async def test_bulk_moves_in_opposite_order_do_not_wait_for_each_other_in_a_circle(desk):
    await orders.open_desk(desk.db, name="vip", role="admin", wip_limit=1000)
    await orders.open_desk(desk.db, name="main", role="admin", wip_limit=1000)
    for _ in range(5):
        placed = [await desk.place(desk=("main", "vip")[n % 2]) for n in range(12)]
        ids = [order.id for order in placed]
        people = [desk.alice, desk.bob, desk.chief]
        answers = await asyncio.gather(
            *(
                orders.take_each(
                    desk.db, order_ids=random.sample(ids, len(ids)), operator_id=person
                )
                for person in people
            )
        )
        for order in ids:
            outcomes = [j.outcome for judged in answers for j in judged if j.id == order]
            assert sorted(outcomes) == ["ok", "order_already_assigned", "order_already_assigned"]
        backwards = orders.reassign_each(
            desk.db, order_ids=ids[::-1], operator_id=desk.bob, reason="x", actor_id=desk.chief
        )
        forwards = orders.reassign_each(
            desk.db, order_ids=ids, operator_id=desk.alice, reason="x", actor_id=desk.chief
        )
        for judged in await asyncio.gather(backwards, forwards):
            assert {j.outcome for j in judged} == {"ok"}


async def test_a_take_waits_for_an_open_one_and_is_told_whose_it_became(desk, app_url):
    placed = await desk.place()
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await orders.take(other, order_id=placed.id, operator_id=desk.bob, operator_name="Bob")
        waiting = asyncio.create_task(code_of(desk.take(placed, desk.alice)))
        await _until_somebody_waits(desk)
        await other.commit()
        assert await waiting == "order_already_assigned"


async def test_a_take_that_was_rolled_back_leaves_the_order_to_the_next(desk, app_url):
    placed = await desk.place()
    async with await psycopg.AsyncConnection.connect(app_url) as other:
        await orders.take(other, order_id=placed.id, operator_id=desk.bob)
        waiting = asyncio.create_task(code_of(desk.take(placed, desk.alice)))
        await _until_somebody_waits(desk)
        await other.rollback()
        assert await waiting == "ok"


async def _until_somebody_waits(desk: Desk) -> None:
    """A lock that somebody waits for is the only sign that he has come to it."""
    async with asyncio.timeout(10):
        while not await desk.rows(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database()"
        ):
            pass
