"""The order desk: customers place orders, operators take them."""

from holdfast.web.api.orders import desks, moves, reads

ROUTERS = (reads.router, moves.router, desks.router)
