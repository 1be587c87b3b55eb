"""The order desk: customers place orders, operators take them. One order, one operator, always."""

from holdfast.systems.orders import meters
from holdfast.systems.orders.desks import Desk, desks, name_operator, open_desk
from holdfast.systems.orders.moves import (
    cancel,
    complete,
    heartbeat,
    place,
    reassign,
    reassign_each,
    release,
)
from holdfast.systems.orders.order import STATUSES, Allowed, Judged, Order
from holdfast.systems.orders.reads import (
    Changes,
    Depth,
    Trace,
    audit_of,
    changes,
    depth,
    get,
    list_of_customer,
    list_of_desk,
)
from holdfast.systems.orders.sweeps import (
    Forgotten,
    Lapsed,
    Late,
    Swept,
    forget,
    sweep,
    sweep_late,
    sweep_leases,
)
from holdfast.systems.orders.takes import take, take_each, take_next

__all__ = [
    "STATUSES",
    "Allowed",
    "Changes",
    "Depth",
    "Desk",
    "Forgotten",
    "Judged",
    "Lapsed",
    "Late",
    "Order",
    "Swept",
    "Trace",
    "audit_of",
    "cancel",
    "changes",
    "complete",
    "depth",
    "desks",
    "forget",
    "get",
    "heartbeat",
    "list_of_customer",
    "list_of_desk",
    "meters",
    "name_operator",
    "open_desk",
    "place",
    "reassign",
    "reassign_each",
    "release",
    "sweep",
    "sweep_late",
    "sweep_leases",
    "take",
    "take_each",
    "take_next",
]
