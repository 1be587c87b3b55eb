"""People to be on the console in development, with their roles, and orders for them."""

import contextlib

from holdfast.cli.place import Place
from holdfast.config import Settings
from holdfast.errors import HoldfastError
from holdfast.postgres.pool import Database
from holdfast.systems import accounts, orders
from holdfast.web.console.session import PERSONAS

_ORDERS = (
    ("Refund a double payment", 5, "Paid twice on Monday; the second time by mistake."),
    ("Check the papers of order 4471", 3, None),
    ("Call back: the code never came", 9, None),
    ("Change the delivery address", 0, "From the old street to the new one, same town."),
    ("Close the account", 0, None),
)


async def introduce(settings: Settings, where: Place, db: Database) -> None:
    """Make the personas of the sign-in page, in dev; without the owner's rights they stay users."""
    if settings.production:
        return
    made = [
        (await accounts.sign_in(db, kind="dev", subject=one.subject, name=one.name), one.role)
        for one in PERSONAS
    ]
    with contextlib.suppress(HoldfastError):
        async with await where.open_owner() as owner:
            for account, role in made:
                if account.role != role:
                    await accounts.set_role(
                        owner, account_id=account.id, role=role, actor="cli:personas"
                    )


async def sample_orders(db: Database) -> None:
    """Place orders for the desk, where nobody waits there."""
    if any(row.orders for row in await orders.depth(db)):
        return
    one = next(persona for persona in PERSONAS if persona.role == "user")
    customer = await accounts.sign_in(db, kind="dev", subject=one.subject, name=one.name)
    for title, priority, details in _ORDERS:
        await orders.place(
            db, customer_id=customer.id, title=title, priority=priority, details=details
        )
