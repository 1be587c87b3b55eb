"""Taking an order: the seed's four scenarios, each with its own answer."""

import asyncio

import psycopg
import pytest

from holdfast import errors
from holdfast.systems import orders
from systems.desk import Desk, code_of, make_desk


@pytest.fixture
async def desk(db, owner, new_account) -> Desk:
    return await make_desk(db, owner, new_account)


async def test_scenario_1_a_waiting_order_is_taken(desk):
    placed = await desk.place()
    before = desk.db.round_trips
    taken = await desk.take(placed, desk.alice)
    assert desk.db.round_trips == before + 1
    assert (taken.status, taken.assigned_operator_id, taken.version) == (
        "PROCESSING",
        desk.alice,
        2,
    )
    assert taken.assigned_at is not None
    assert (taken.lease_until - taken.assigned_at).total_seconds() == 900


async def test_the_audit_row_is_the_seeds(desk):
    taken = await desk.take(await desk.place(), desk.alice, request_id="req-1")
    (row,) = await desk.rows(
        "select old_value, new_value, actor, from_status, to_status, request_id from audit.event"
        " where entity_id = %s and action = 'ASSIGNED_TO_OPERATOR'",
        taken.id,
    )
    assert row == (None, str(desk.alice), str(desk.alice), "PENDING", "PROCESSING", "req-1")
    (effect,) = await desk.rows(
        "select payload ->> 'operator', stream, seq from outbox.effect where topic = 'orders.taken'"
    )
    assert effect == (str(desk.alice), taken.id, 2)


async def test_scenario_2_two_at_once_one_wins_and_one_is_told(desk):
    placed = await desk.place()
    outcomes = await asyncio.gather(
        desk.take(placed, desk.alice, "Alice"),
        desk.take(placed, desk.bob, "Bob"),
        return_exceptions=True,
    )
    (winner,) = [o for o in outcomes if not isinstance(o, Exception)]
    (loser,) = [o for o in outcomes if isinstance(o, Exception)]
    assert isinstance(loser, errors.OrderAlreadyAssigned)
    assert loser.facts["holder"] == {"id": winner.assigned_operator_id, "name": winner.holder_name}
    assert loser.facts["since"] == winner.assigned_at
    assert loser.facts["version"] == 2


async def test_scenario_3_what_another_holds_is_already_assigned(desk):
    placed = await desk.taken()
    with pytest.raises(errors.OrderAlreadyAssigned) as refused:
        await desk.take(placed, desk.bob, "Bob")
    told = refused.value
    assert told.status == 409
    assert told.detail("en") == "Order has already been assigned to another operator"
    assert told.detail("ru") == "Заявка уже взята другим оператором"
    assert told.detail("uk") not in (told.detail("en"), told.detail("ru"))


@pytest.mark.parametrize("end", ["complete", "cancel"])
async def test_scenario_4_what_is_finished_is_not_pending(desk, end):
    taken = await desk.taken()
    if end == "complete":
        await orders.complete(desk.db, order_id=taken.id, operator_id=desk.alice)
    else:
        await orders.cancel(desk.db, order_id=taken.id, actor_id=desk.alice, role="operator")
    with pytest.raises(errors.OrderNotPending) as refused:
        await desk.take(taken, desk.bob, "Bob")
    status = "COMPLETED" if end == "complete" else "CANCELLED"
    assert refused.value.facts["status"] == status
    assert refused.value.status == 409
    texts = {refused.value.detail(locale) for locale in ("en", "ru", "uk")}
    assert len(texts) == 3
    assert all(status in text for text in texts)


async def test_taking_ones_own_again_changes_nothing(desk):
    first = await desk.taken()
    await desk.pass_time(10)
    again = await desk.take(first, desk.alice)
    assert (again.version, again.assigned_at) == (first.version, first.assigned_at)
    (count,) = await desk.rows(
        "select count(*) from audit.event where action = 'ASSIGNED_TO_OPERATOR'"
    )
    assert count == (1,)


async def test_an_order_that_is_not_there_and_one_of_a_stranger(desk):
    placed = await desk.place()
    assert await code_of(desk.take(placed, desk.bob, role="user")) == "order_not_found"
    assert await code_of(desk.take(placed, desk.customer, role="user")) == "forbidden"
    gone = orders.take(desk.db, order_id=desk.customer, operator_id=desk.alice)
    assert await code_of(gone) == "order_not_found"


async def test_a_version_that_has_passed_is_told_before_anything_else(desk):
    taken = await desk.taken()
    with pytest.raises(errors.VersionMismatch) as refused:
        await desk.take(taken, desk.bob, "Bob", version=1)
    assert refused.value.facts["version"] == 2
    assert await code_of(desk.take(await desk.place(), desk.bob, "Bob", version=1)) == "ok"


async def test_a_dry_run_says_what_would_be_and_writes_nothing(desk):
    placed = await desk.place()
    seen = await desk.take(placed, desk.alice, dry_run=True)
    assert (seen.status, seen.version) == ("PENDING", 1)
    taken = await desk.take(placed, desk.bob, "Bob")
    refused = desk.take(taken, desk.alice, dry_run=True)
    assert await code_of(refused) == "order_already_assigned"


async def test_an_audit_that_cannot_be_written_undoes_the_take_and_is_no_conflict(desk):
    placed = await desk.place()
    await desk.owner.execute(
        """create function audit.broken() returns trigger language plpgsql as
           $$ begin raise exception 'the disk of the audit is full'; end $$;
           create trigger broken before insert on audit.event
           for each row execute function audit.broken()"""
    )
    with pytest.raises(errors.HoldfastError) as problem:
        await desk.take(placed, desk.alice)
    assert problem.value.status >= 500
    assert not isinstance(problem.value, errors.OrderAlreadyAssigned)
    (row,) = await desk.rows("select status, assigned_operator_id, version from orders.order")
    assert row == ("PENDING", None, 1)


async def test_an_outage_is_never_told_as_already_taken(desk, app_url):
    placed = await desk.place()
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as connection:
        await desk.owner.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(errors.Unavailable) as outage:
            await orders.take(connection, order_id=placed.id, operator_id=desk.alice)
    assert outage.value.retry_after is not None
    assert outage.value.code == "unavailable"


async def test_a_limit_of_work_at_once(desk):
    await orders.open_desk(desk.db, name="main", role="supervisor", wip_limit=2)
    first, *rest = [await desk.place() for _ in range(3)]
    await desk.take(first, desk.alice)
    await desk.take(rest[0], desk.alice)
    with pytest.raises(errors.WipLimitReached) as refused:
        await desk.take(rest[1], desk.alice)
    assert refused.value.facts["limit"] == 2
    assert "2" in refused.value.detail("uk")
    next_one = orders.take_next(desk.db, operator_id=desk.alice)
    assert await code_of(next_one) == "wip_limit_reached"
    await orders.complete(desk.db, order_id=first.id, operator_id=desk.alice)
    assert await code_of(desk.take(rest[1], desk.alice)) == "ok"


async def test_take_next_gives_the_highest_priority_then_the_oldest(desk):
    placed = [await desk.place(title=f"{n}", priority=p) for n, p in enumerate([0, 5, 5, 9, 0])]
    got = [
        await orders.take_next(desk.db, operator_id=desk.alice, operator_name="Alice")
        for _ in placed
    ]
    assert [order.title for order in got] == ["3", "1", "2", "0", "4"]
    assert await orders.take_next(desk.db, operator_id=desk.alice) is None


async def test_take_next_of_a_desk_that_is_not_there(desk):
    with pytest.raises(errors.DeskNotFound) as refused:
        await orders.take_next(desk.db, operator_id=desk.alice, desk="nowhere")
    assert "nowhere" in refused.value.detail()


async def test_the_application_cannot_write_an_order_by_itself(desk, app_url):
    placed = await desk.place()
    async with await psycopg.AsyncConnection.connect(app_url) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(
                "update orders.order set status = 'PROCESSING' where id = %s", [placed.id]
            )
