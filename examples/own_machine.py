"""A life cycle over a table of your own: declared once, guarded for every program.

    python examples/own_machine.py

A parcel is packed, sent, delivered or lost. The declaration is all there is to write: moves that it
does not name are refused by the database, to this program, to psql and to the table's owner, and
the others leave a trace.
"""

import asyncio

import psycopg
from places import database
from psycopg.rows import dict_row

from holdfast import transitions

TABLE = """
create schema if not exists post;
create table if not exists post.parcel (
    id     uuid primary key default kernel.new_id(0::smallint),
    status text not null default 'PACKED',
    to_whom text not null
);
grant usage on schema post to holdfast_app;
grant select, insert, update on post.parcel to holdfast_app;
"""

EDGES = """
    PACKED, SENT, DELIVERED, LOST
    send:    PACKED → SENT (clerk)
    deliver: SENT → DELIVERED (courier)
    lose:    SENT → LOST (courier)
"""


async def main() -> None:
    """Declare the machine, walk it, and try to leave its edges."""
    with database() as place:
        async with await psycopg.AsyncConnection.connect(place.owner_url, autocommit=True) as owner:
            await owner.execute(TABLE)
            await transitions.declare(owner, machine="parcel", entity="post.parcel", edges=EDGES)
            [parcel] = [m for m in await transitions.machines(owner) if m.machine == "parcel"]
            print(parcel.mermaid(), end="\n\n")
        async with await psycopg.AsyncConnection.connect(
            place.url, autocommit=True, row_factory=dict_row
        ) as db:
            await walk(db)


async def walk(db: psycopg.AsyncConnection[dict]) -> None:
    """Send a parcel as any program would, with plain SQL."""
    made = await db.execute("insert into post.parcel (to_whom) values ('Ada') returning id")
    parcel = (await made.fetchone())["id"]
    for status in ("SENT", "PACKED", "DELIVERED", "LOST"):
        try:
            await db.execute("update post.parcel set status = %s where id = %s", [status, parcel])
            print(f"{status:9} yes")
        except psycopg.Error as refused:
            print(f"{status:9} no: {refused.diag.message_primary} ({refused.sqlstate})")
    trail = await db.execute("select * from audit.trail(%s)", [parcel])
    print()
    for event in await trail.fetchall():
        print(f"{event['from_status']} → {event['to_status']}")


if __name__ == "__main__":
    asyncio.run(main())
