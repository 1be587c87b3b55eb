"""Other people's accounts, for admins: adjustments, roles, erasure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from starlette.responses import Response

from holdfast.errors import (
    AccountErased,
    BalanceBelowFloor,
    Forbidden,
    IdempotencyKeyReused,
    NotFound,
)
from holdfast.kernel import ledger
from holdfast.systems import accounts
from holdfast.web.actor import Caller
from holdfast.web.api.me import AccountShape, TransactionShape, account_shape
from holdfast.web.body import Body, wrong
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PathId, RequiredKey, RunningDep
from holdfast.web.responses import answer, refuses

router = json_router(prefix="/api/accounts", tags=["accounts"])

_MOST = 10**15  # crystals in one adjustment


class AdjustmentBody(Body):
    """A correction, up or down, and why."""

    amount: int = Field(ge=-_MOST, le=_MOST)
    reason: str = Field(min_length=1, max_length=1000)

    @field_validator("amount")
    @classmethod
    def _something(cls, value: int) -> int:
        if value == 0:
            raise wrong("malformed")
        return value


class RoleBody(Body):
    """What an account may do."""

    role: Literal["user", "operator", "supervisor", "admin"]


def _admin(caller: Caller) -> None:
    if caller.role != "admin":
        raise Forbidden


@router.get("/{account_id}", response_model=AccountShape, responses=refuses(Forbidden, NotFound))
async def get(account_id: PathId, caller: CallerDep, db: Db) -> Response:
    """One account, with its wallet."""
    _admin(caller)
    return answer(account_shape(await accounts.get(db, account_id=account_id)))


@router.post(
    "/{account_id}/adjustments",
    status_code=201,
    response_model=TransactionShape,
    responses=refuses(Forbidden, NotFound, AccountErased, BalanceBelowFloor, IdempotencyKeyReused),
)
async def adjust(
    account_id: PathId,
    caller: CallerDep,
    key: RequiredKey,
    body: AdjustmentBody,
    db: Db,
    running: RunningDep,
) -> Response:
    """Correct a balance, with a reason; audited."""
    _admin(caller)
    if (await accounts.get(db, account_id=account_id)).status == "ERASED":
        raise AccountErased
    with running.once("ledger.adjust", caller.account_id, key):
        made = await ledger.adjust(
            db,
            account_id=account_id,
            amount=body.amount,
            reason=body.reason,
            key=key,
            actor=caller.actor,
            request_id=caller.request_id,
        )
    shown = TransactionShape(
        id=made.entry_id,
        kind="adjustment",
        amount=body.amount,
        balance_after=made.balance,
        held_after=made.held,
        cause=made.cause,
        reason=body.reason,
        at=made.at,
    )
    return answer(shown, 201, replayed=made.replayed)


@router.put(
    "/{account_id}/role", response_model=AccountShape, responses=refuses(Forbidden, NotFound)
)
async def change_role(account_id: PathId, caller: CallerDep, body: RoleBody, db: Db) -> Response:
    """Give an account a role; audited."""
    _admin(caller)
    await accounts.change_role(
        db,
        account_id=account_id,
        role=body.role,
        admin_id=caller.account_id,
        request_id=caller.request_id,
    )
    return answer(account_shape(await accounts.get(db, account_id=account_id)))


@router.delete("/{account_id}", status_code=204, responses=refuses(Forbidden, NotFound))
async def erase(account_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Erase a person who asked for it."""
    _admin(caller)
    await accounts.erase(
        db, account_id=account_id, actor=caller.actor, request_id=caller.request_id
    )
    return Response(status_code=204)
