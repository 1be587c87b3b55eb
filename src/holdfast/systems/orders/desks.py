"""Desks: where orders wait, who works on them, how much and how long."""

from dataclasses import dataclass
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle, Row
from holdfast.systems.orders.order import Role


@dataclass(frozen=True, slots=True)
class Desk:
    """One desk. A `closed` one works with the operators it names; an open one with every operator.

    `lease` and `sla` are seconds, `wip_limit` is orders.
    """

    id: UUID
    name: str
    closed: bool
    lease: int
    wip_limit: int
    sla: int


def _desk(row: Row) -> Desk:
    return Desk(
        id=row["desk_id"],
        name=row["desk"],
        closed=row["is_closed"],
        lease=row["lease"],
        wip_limit=row["most"],
        sla=row["sla"],
    )


async def open_desk(
    db: Handle,
    *,
    name: str,
    role: Role,
    closed: bool | None = None,
    lease_seconds: int | None = None,
    wip_limit: int | None = None,
    sla_seconds: int | None = None,
) -> tuple[Desk, bool]:
    """Make a desk, or change what is given of it; returns it and whether it was made now.

    `name` is `[a-z0-9-]{1,40}`. Where a limit was never given, the installation's setting holds.
    Raises Forbidden for anybody but supervisors.
    """
    row = await call_one(
        db,
        """select * from orders.open_desk(called => %(name)s, role => %(role)s,
            closed => %(closed)s, lease_seconds => %(lease)s, wip_limit => %(limit)s,
            sla_seconds => %(sla)s)""",
        {
            "name": name,
            "role": role,
            "closed": closed,
            "lease": lease_seconds,
            "limit": wip_limit,
            "sla": sla_seconds,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
    return _desk(row), row["created"]


async def name_operator(
    db: Handle,
    *,
    desk: str,
    operator_id: UUID,
    role: Role,
    operator_role: Role = "operator",
    operator_name: str | None = None,
    named: bool = True,
) -> None:
    """Name an operator for a desk, or take it back. The first name closes the desk to others.

    Raises Forbidden, DeskNotFound, OperatorNotFound (the person is no operator).
    """
    row = await call_one(
        db,
        """select orders.name_operator(desk => %(desk)s, operator_id => %(operator)s,
            operator_role => %(operator_role)s, operator_name => %(name)s, role => %(role)s,
            named => %(named)s) as code""",
        {
            "desk": desk,
            "operator": operator_id,
            "operator_role": operator_role,
            "name": operator_name,
            "role": role,
            "named": named,
        },
    )
    if row["code"] != "ok":
        raise refusal(row["code"], desk=desk)


async def desks(db: Handle) -> list[Desk]:
    """Return every desk, by name."""
    return [_desk(row) for row in await call(db, "select * from orders.desks()")]
