"""`holdfast verify` on the order desk: silent after honest work, loud after a forgery."""

import pytest

from holdfast.kernel import verify
from holdfast.systems import orders
from systems.desk import Desk, make_desk


@pytest.fixture
async def desk(db, owner, new_account) -> Desk:
    return await make_desk(db, owner, new_account)


async def broken(desk: Desk) -> set[str]:
    found = [one for one in await verify.run(desk.db) if one.name.startswith("orders.")]
    assert {one.name for one in found} == {
        "orders.one_operator",
        "orders.trails",
        "orders.breaches",
    }
    assert all(one.checked == 4 for one in found)
    return {one.name for one in found if one.violations}


async def story(desk: Desk):
    """Four orders that have seen everything."""
    lost, kept, done, gone = [await desk.taken() for _ in range(4)]
    await orders.complete(desk.db, order_id=done.id, operator_id=desk.alice)
    await orders.cancel(desk.db, order_id=gone.id, actor_id=desk.chief, role="supervisor")
    await orders.reassign(
        desk.db, order_id=kept.id, operator_id=desk.bob, reason="x", actor_id=desk.chief
    )
    await desk.pass_time(1000)
    await orders.heartbeat(desk.db, order_id=kept.id, operator_id=desk.bob)
    await orders.sweep(desk.db)
    await desk.take(lost, desk.bob)
    await desk.pass_time(4000)
    await orders.sweep_late(desk.db)
    return kept


async def test_honest_work_breaks_nothing(desk):
    await story(desk)
    assert await broken(desk) == set()


@pytest.mark.parametrize(
    ("forgery", "names"),
    [
        ("assigned_operator_id = gen_random_uuid()", {"orders.one_operator"}),
        ("version = version + 1", {"orders.trails"}),
        ("breached_at = null", {"orders.breaches"}),
    ],
)
async def test_a_forgery_is_found(desk, forgery, names):
    kept = await story(desk)
    statement = "update orders.order set FORGERY where id = %s".replace("FORGERY", forgery)
    await desk.owner.execute(statement, [kept.id])
    assert await broken(desk) == names
