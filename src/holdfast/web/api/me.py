"""The caller's own account and wallet."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from starlette.responses import Response

from holdfast.kernel import ledger
from holdfast.systems.accounts import Account
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PageDep
from holdfast.web.responses import Items, Shape, answer

router = json_router(prefix="/api/me", tags=["me"])


class TokensShape(Shape):
    """A wallet, in crystals: `available` = balance - held."""

    balance: int
    held: int
    available: int


class AccountShape(Shape):
    """An account. `created`: this very request made it."""

    id: UUID
    role: str
    name: str | None
    locale: str
    time_zone: str
    created: bool
    created_at: datetime
    tokens: TokensShape


class TransactionShape(Shape):
    """One movement. `amount` is the signed change of the balance, so Σ amount = balance."""

    id: UUID
    kind: str
    amount: int
    balance_after: int
    held_after: int
    cause: str
    reason: str | None
    at: datetime


def account_shape(account: Account) -> AccountShape:
    """Show an account as its owner sees it."""
    return AccountShape(
        id=account.id,
        role=account.role,
        name=account.name,
        locale=account.locale,
        time_zone=account.time_zone,
        created=account.created,
        created_at=account.created_at,
        tokens=TokensShape(
            balance=account.balance, held=account.held, available=account.balance - account.held
        ),
    )


@router.get("", response_model=AccountShape)
async def me(caller: CallerDep) -> Response:
    """The caller's account and wallet."""
    return answer(account_shape(caller.account))


@router.get("/transactions", response_model=Items[TransactionShape])
async def transactions(caller: CallerDep, db: Db, page: PageDep) -> Response:
    """Every movement of the wallet, newest first."""
    found = await ledger.transactions(
        db,
        account_id=caller.account_id,
        before=page.after("transactions", int),
        limit=page.fetch,
    )
    return answer(
        page.answer("transactions", found, lambda e: e.seq, TransactionShape.model_validate)
    )
