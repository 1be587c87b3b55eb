"""A user's own table gets a machine: declared once, guarded for every program, traced."""

import psycopg
import pytest

from holdfast.errors import Internal
from holdfast.kernel import transitions, verify

EDGES = """
    PACKED, SENT, DELIVERED, LOST
    send:    PACKED → SENT (clerk)
    deliver: SENT → DELIVERED (courier)
    lose:    SENT → LOST (courier)
"""


@pytest.fixture
async def parcel(owner):
    await owner.execute("create schema shop")
    await owner.execute(
        "create table shop.parcel (id uuid primary key default kernel.new_id(7::smallint),"
        " status text not null default 'PACKED')"
    )
    await owner.execute("grant usage on schema shop to holdfast_app")
    await owner.execute("grant all on shop.parcel to holdfast_app")
    await transitions.declare(owner, machine="parcel", entity="shop.parcel", edges=EDGES)
    return (
        await (
            await owner.execute("insert into shop.parcel default values returning id")
        ).fetchone()
    )[0]


async def test_declared_moves_pass_and_leave_a_trace(db, app_url, parcel):
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as app:
        await app.execute("update shop.parcel set status = 'SENT'")
        events = await (await app.execute("select * from audit.trail(%s)", [parcel])).fetchall()
        assert len(events) == 1
        with pytest.raises(psycopg.DatabaseError) as refused:
            await app.execute("update shop.parcel set status = 'PACKED'")
        assert refused.value.sqlstate == "KH001"
        with pytest.raises(psycopg.DatabaseError) as refused:
            await app.execute("insert into shop.parcel (status) values ('SENT')")
        assert refused.value.sqlstate == "KH003"


async def test_without_its_trace_verify_says_so(db, owner, parcel):
    async def standing():
        [found] = [i for i in await verify.run(db) if i.name == "guards_stand"]
        return found.violations, found.example

    assert (await standing())[0] == 0
    await owner.execute("alter table shop.parcel disable trigger trace_raw")
    assert await standing() == (1, "shop.parcel trace_raw")


async def test_it_stands_in_the_catalogue_with_its_picture(db, parcel):
    machine = next(m for m in await transitions.machines(db) if m.machine == "parcel")
    assert machine.statuses == ("PACKED", "SENT", "DELIVERED", "LOST")
    assert "SENT --> DELIVERED: deliver" in machine.mermaid()
    assert "LOST --> [*]" in machine.mermaid()


async def test_an_edge_that_cannot_be_read_is_said(owner, parcel):
    with pytest.raises(Internal) as refused:
        await transitions.declare(
            owner, machine="parcel", entity="shop.parcel", edges="A, B\n go: A to B (me)"
        )
    assert "cannot read the edge" in refused.value.facts["reason"]


async def test_the_application_cannot_declare(db, parcel):
    with pytest.raises(Exception, match=r"permission denied|database_rights"):
        await transitions.declare(db, machine="x", entity="shop.parcel", edges=EDGES)
