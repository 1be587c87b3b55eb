"""Placing, and everything that happens to an order besides being taken."""

import asyncio

import pytest

from holdfast import errors
from holdfast.systems import orders
from systems.desk import Desk, code_of, make_desk


@pytest.fixture
async def desk(db, owner, new_account) -> Desk:
    return await make_desk(db, owner, new_account)


async def test_a_key_places_once(desk):
    args = {"customer_id": desk.customer, "title": "A parcel", "key": "k-1"}
    first = await orders.place(desk.db, **args)
    again = await orders.place(desk.db, **args)
    assert (first.replayed, again.replayed) == (False, True)
    assert again.id == first.id
    with pytest.raises(errors.IdempotencyKeyReused):
        await orders.place(desk.db, **args | {"title": "Another parcel"})
    other = await orders.place(desk.db, **args | {"customer_id": desk.bob})
    assert other.id != first.id


async def test_ids_keys_audit_and_effects_live_in_the_desks_bucket(desk):
    placed = await desk.place(key="k-1")
    await desk.take(placed, desk.alice)
    (home,) = await desk.rows("select bucket from orders.desk where name = 'main'")
    buckets = await desk.rows(
        "select bucket from orders.order union all select bucket from orders.seat"
        " union all select bucket from audit.event where entity = 'order'"
        " union all select bucket from idempotency.key where verb like 'orders.%%'"
        " union all select bucket from outbox.effect where topic like 'orders.%%'"
    )
    assert set(buckets) == {home}
    assert placed.id.bytes[15] == home[0]


async def test_an_unknown_desk(desk):
    with pytest.raises(errors.DeskNotFound):
        await desk.place(desk="nowhere")


async def test_urgent_orders_are_due_sooner(desk):
    usual, urgent = await desk.place(), await desk.place(priority=9)
    assert (usual.due_at - usual.created_at).total_seconds() == 3600
    assert (urgent.due_at - urgent.created_at).total_seconds() == 360


async def test_a_released_order_waits_again_at_its_place_and_is_lost_to_its_holder(desk):
    taken = await desk.taken()
    await desk.place(title="younger")
    back = await orders.release(desk.db, order_id=taken.id, operator_id=desk.alice)
    assert (back.status, back.assigned_operator_id, back.version) == ("PENDING", None, 3)
    assert (
        await code_of(orders.complete(desk.db, order_id=taken.id, operator_id=desk.alice))
        == "lease_lost"
    )
    assert (await orders.take_next(desk.db, operator_id=desk.bob)).id == taken.id


async def test_a_silent_holder_loses_the_order_and_his_late_word_counts_for_nothing(desk):
    taken = await desk.taken()
    await desk.pass_time(899)
    assert await orders.sweep_leases(desk.db) == []
    await desk.pass_time(2)
    (lapsed,) = await orders.sweep_leases(desk.db)
    assert (lapsed.order_id, lapsed.operator_id) == (taken.id, desk.alice)
    assert await orders.sweep_leases(desk.db) == []
    seen = await desk.take(taken, desk.bob, "Bob")
    late = {"order_id": taken.id, "operator_id": desk.alice}
    for verb in (orders.complete, orders.release, orders.heartbeat):
        assert await code_of(verb(desk.db, **late)) == "lease_lost"
        assert await code_of(verb(desk.db, **late, version=taken.version)) == "version_mismatch"
    assert (
        await code_of(orders.complete(desk.db, order_id=taken.id, operator_id=desk.chief))
        == "forbidden"
    )
    with pytest.raises(errors.LeaseLost) as refused:
        await orders.complete(desk.db, **late)
    assert refused.value.facts["holder"] == {"id": desk.bob, "name": "Bob"}
    (row,) = await desk.rows("select status, assigned_operator_id, version from orders.order")
    assert row == ("PROCESSING", desk.bob, seen.version)
    trail = await orders.audit_of(desk.db, order_id=taken.id, actor_id=desk.bob, role="operator")
    assert [(t.action, t.reason, t.actor) for t in trail][2] == (
        "orders.lease_expired",
        "lease_expired",
        "sweeper",
    )


async def test_a_sign_of_life_keeps_the_order_and_its_version(desk):
    taken = await desk.taken()
    await desk.pass_time(600)
    beaten = await orders.heartbeat(desk.db, order_id=taken.id, operator_id=desk.alice)
    assert beaten.version == taken.version
    await desk.pass_time(600)
    assert await orders.sweep_leases(desk.db) == []
    done = await orders.complete(desk.db, order_id=taken.id, operator_id=desk.alice, version=2)
    assert (done.status, done.version, done.lease_until) == ("COMPLETED", 3, None)
    again = orders.complete(desk.db, order_id=taken.id, operator_id=desk.alice)
    assert await code_of(again) == "order_not_processing"


@pytest.mark.parametrize(
    ("who", "role", "status", "code"),
    [
        ("customer", "user", "PENDING", "ok"),
        ("bob", "operator", "PENDING", "ok"),
        ("bob", "user", "PENDING", "order_not_found"),
        ("chief", "supervisor", "PENDING", "ok"),
        ("customer", "user", "PROCESSING", "forbidden"),
        ("alice", "operator", "PROCESSING", "ok"),
        ("bob", "operator", "PROCESSING", "forbidden"),
        ("chief", "supervisor", "PROCESSING", "ok"),
        ("customer", "user", "COMPLETED", "order_not_pending"),
        ("chief", "supervisor", "COMPLETED", "order_not_pending"),
    ],
)
async def test_who_may_cancel_what(desk, who, role, status, code):
    order = await desk.place()
    if status != "PENDING":
        await desk.take(order, desk.alice)
    if status == "COMPLETED":
        await orders.complete(desk.db, order_id=order.id, operator_id=desk.alice)
    attempt = orders.cancel(desk.db, order_id=order.id, actor_id=getattr(desk, who), role=role)
    assert await code_of(attempt) == code


async def test_a_supervisor_reassigns_with_a_reason_and_a_new_fence(desk):
    taken = await desk.taken()
    args = {
        "order_id": taken.id,
        "operator_id": desk.bob,
        "operator_name": "Bob",
        "actor_id": desk.chief,
        "reason": "Alice went home",
    }
    assert await code_of(orders.reassign(desk.db, **args, role="operator")) == "forbidden"
    moved = await orders.reassign(desk.db, **args)
    assert (moved.assigned_operator_id, moved.holder_name, moved.version) == (desk.bob, "Bob", 3)
    late = orders.complete(desk.db, order_id=taken.id, operator_id=desk.alice)
    assert await code_of(late) == "lease_lost"
    (row,) = await desk.rows(
        "select old_value, new_value, actor, reason from audit.event"
        " where action = 'orders.reassign'"
    )
    assert row == (str(desk.alice), str(desk.bob), str(desk.chief), "Alice went home")
    waiting = await desk.place()
    attempt = orders.reassign(desk.db, **args | {"order_id": waiting.id})
    assert await code_of(attempt) == "order_not_processing"
    stranger = orders.reassign(desk.db, **args | {"operator_role": "user"})
    assert await code_of(stranger) == "operator_not_found"


async def test_bulk_moves_answer_for_each_order_once(desk):
    free, held, done = await desk.place(), await desk.place(), await desk.taken()
    await desk.take(held, desk.bob, "Bob")
    await orders.complete(desk.db, order_id=done.id, operator_id=desk.alice)
    named = [done.id, free.id, desk.customer, held.id, free.id]
    outcomes = await orders.take_each(desk.db, order_ids=named, operator_id=desk.alice)
    assert [(o.id, o.outcome) for o in outcomes] == [
        (done.id, "order_not_pending"),
        (free.id, "ok"),
        (desk.customer, "order_not_found"),
        (held.id, "order_already_assigned"),
    ]
    assert outcomes[1].order.assigned_operator_id == desk.alice
    assert outcomes[2].order is None
    moved = await orders.reassign_each(
        desk.db,
        order_ids=[free.id, done.id, free.id],
        operator_id=desk.bob,
        reason="balance",
        actor_id=desk.chief,
    )
    assert [(o.id, o.outcome) for o in moved] == [
        (free.id, "ok"),
        (done.id, "order_not_processing"),
    ]


async def test_a_bulk_take_stops_at_the_limit(desk):
    await orders.open_desk(desk.db, name="main", role="supervisor", wip_limit=2)
    placed = [await desk.place() for _ in range(4)]
    outcomes = await orders.take_each(
        desk.db, order_ids=[o.id for o in placed], operator_id=desk.alice
    )
    assert [o.outcome for o in outcomes] == ["ok", "ok", "wip_limit_reached", "wip_limit_reached"]


async def test_a_desk_that_names_its_operators_works_with_them_only(desk):
    made, created = await orders.open_desk(desk.db, name="vip", role="supervisor")
    assert (created, made.closed) == (True, False)
    order = await desk.place(desk="vip")
    name = {"desk": "vip", "operator_id": desk.alice, "operator_name": "Alice"}
    assert await code_of(orders.name_operator(desk.db, **name, role="operator")) == "forbidden"
    await orders.name_operator(desk.db, **name, role="supervisor")
    assert await code_of(desk.take(order, desk.bob, "Bob")) == "forbidden"
    see = {"desk": "vip", "actor_id": desk.bob, "role": "operator"}
    assert await code_of(orders.list_of_desk(desk.db, **see)) == "forbidden"
    assert await code_of(desk.take(order, desk.alice)) == "ok"
    moved = orders.reassign(
        desk.db, order_id=order.id, operator_id=desk.bob, reason="x", actor_id=desk.chief
    )
    assert await code_of(moved) == "operator_not_found"
    assert await code_of(orders.open_desk(desk.db, name="x", role="operator")) == "forbidden"
    nowhere = orders.name_operator(desk.db, **name | {"desk": "no"}, role="admin")
    assert await code_of(nowhere) == "desk_not_found"


async def test_what_a_button_promises_is_what_a_try_gets(desk):
    """Every verb, status and viewer: `allowed_actions` against the verb's own dry run."""
    await orders.name_operator(desk.db, desk="main", operator_id=desk.alice, role="supervisor")
    waiting, held, lost, done = [await desk.place() for _ in range(4)]
    for order in (held, lost, done):
        await desk.take(order, desk.alice)
    await orders.release(desk.db, order_id=lost.id, operator_id=desk.alice)
    await orders.complete(desk.db, order_id=done.id, operator_id=desk.alice)
    people = [
        (desk.customer, "user"),
        (desk.alice, "operator"),
        (desk.bob, "operator"),
        (desk.chief, "supervisor"),
    ]
    compared = 0
    for order in (waiting, held, lost, done):
        for person, role in people:
            try:
                seen = await orders.get(desk.db, order_id=order.id, actor_id=person, role=role)
            except errors.Forbidden:
                assert person == desk.bob
                continue
            for promised in seen.allowed_actions:
                verb = getattr(orders, promised.action)
                asked = {"order_id": order.id, "role": role, "dry_run": True}
                who = "actor_id" if promised.action in ("cancel", "reassign") else "operator_id"
                asked[who] = person
                if promised.action == "reassign":
                    asked |= {"operator_id": desk.alice, "reason": "x"}
                code = await code_of(verb(desk.db, **asked))
                assert code == (promised.reason or "ok"), (order, role, promised)
                compared += 1
    assert compared == 4 * 3 * 6


async def test_an_erased_person_leaves_nothing_behind(desk):
    held = await desk.taken()
    mine = await desk.place(customer_id=desk.alice, title="My name is Alice")
    gone = await orders.forget(desk.db, account_id=desk.alice)
    assert (gone.released, gone.cancelled) == (1, 1)
    rows = await desk.rows("select id, status, title from orders.order order by id")
    assert rows == [(held.id, "PENDING", "A parcel"), (mine.id, "CANCELLED", "-")]
    assert await desk.rows("select name from orders.seat") == [(None,)]


async def test_a_key_makes_a_move_happen_once(desk):
    for _ in range(2):
        await desk.place()
    ask = {"operator_id": desk.alice, "key": "k-1"}
    first = await orders.take_next(desk.db, **ask)
    again = await orders.take_next(desk.db, **ask)
    assert (again.id, first.replayed, again.replayed) == (first.id, False, True)
    done = {"order_id": first.id, "operator_id": desk.alice, "key": "k-1"}
    assert not (await orders.complete(desk.db, **done)).replayed
    again = await orders.complete(desk.db, **done)
    assert (again.replayed, again.status, again.version) == (True, "COMPLETED", 3)
    other = await orders.take_next(desk.db, operator_id=desk.alice)
    reused = orders.complete(desk.db, **done | {"order_id": other.id})
    assert await code_of(reused) == "idempotency_key_reused"


async def test_twins_of_a_key_place_one_order(desk):
    args = {"customer_id": desk.customer, "title": "A parcel", "key": "k-1"}
    placed = await asyncio.gather(*(orders.place(desk.db, **args) for _ in range(20)))
    assert len({order.id for order in placed}) == 1
    assert [order.replayed for order in placed].count(False) == 1
