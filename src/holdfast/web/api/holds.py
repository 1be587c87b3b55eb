"""Holds: credit promised to work that is queued elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from pydantic import Field
from starlette.responses import Response

from holdfast.errors import (
    CaptureExceedsHold,
    HoldFinished,
    IdempotencyKeyReused,
    InsufficientTokens,
    Invalid,
    NotFound,
)
from holdfast.kernel import ledger
from holdfast.web.body import Body
from holdfast.web.body import router as json_router
from holdfast.web.requests import (
    CallerDep,
    Db,
    OptionalKey,
    PathId,
    RunningDep,
    SettingsDep,
)
from holdfast.web.responses import Shape, answer, refuses

router = json_router(prefix="/api/holds", tags=["holds"])
_MOST = 2**53 - 1  # what a JSON number carries exactly everywhere


class HoldBody(Body):
    """`ttlSeconds` is counted by the database's clock, up to HOLDFAST_HOLD_TTL_SECONDS_MAX."""

    amount: int = Field(ge=1, le=_MOST)
    ttl_seconds: int = Field(ge=1)
    cause: str = Field(min_length=1, max_length=200)


class CaptureBody(Body):
    """How much of the hold is taken; the rest is given back."""

    amount: int = Field(ge=0, le=_MOST)


class HoldShape(Shape):
    """A hold: OPEN, CAPTURED, RELEASED or EXPIRED."""

    id: UUID
    status: str
    amount: int
    captured: int
    expires_at: datetime


def _shown(hold: ledger.Hold, status: int = 200) -> Response:
    return answer(HoldShape.model_validate(hold), status, replayed=hold.replayed)


@router.post(
    "",
    status_code=201,
    response_model=HoldShape,
    responses=refuses(InsufficientTokens, IdempotencyKeyReused),
)
async def hold(
    caller: CallerDep,
    key: OptionalKey,
    body: HoldBody,
    db: Db,
    settings: SettingsDep,
    running: RunningDep,
) -> Response:
    """Reserve crystals; they stay yours until captured, and come back when the time is over."""
    if body.ttl_seconds > settings.hold_ttl_seconds_max:
        problem = {
            "pointer": "/ttlSeconds",
            "code": "too_big",
            "most": settings.hold_ttl_seconds_max,
        }
        raise Invalid.of([problem])
    key = key or uuid4().hex
    with running.once("ledger.hold", caller.account_id, key):
        made = await ledger.hold(
            db,
            account_id=caller.account_id,
            amount=body.amount,
            ttl=body.ttl_seconds,
            cause=body.cause,
            key=key,
            request_id=caller.request_id,
        )
    # A replay is the same answer again, whatever became of the hold.
    return _shown(replace(made, status="OPEN", captured=0), 201)


@router.get("/{hold_id}", response_model=HoldShape, responses=refuses(NotFound))
async def hold_of(hold_id: PathId, caller: CallerDep, db: Db) -> Response:
    """One hold."""
    return _shown(await ledger.hold_of(db, hold_id=hold_id, owners=caller.owners))


@router.post(
    "/{hold_id}/capture",
    response_model=HoldShape,
    responses=refuses(NotFound, HoldFinished, CaptureExceedsHold, IdempotencyKeyReused),
)
async def capture(
    hold_id: PathId, caller: CallerDep, key: OptionalKey, body: CaptureBody, db: Db
) -> Response:
    """Take part or all of an open hold."""
    done = await ledger.capture(
        db,
        hold_id=hold_id,
        amount=body.amount,
        owners=caller.owners,
        key=key,
        request_id=caller.request_id,
    )
    return _shown(done)


@router.post(
    "/{hold_id}/release",
    response_model=HoldShape,
    responses=refuses(NotFound, HoldFinished, IdempotencyKeyReused),
)
async def release(hold_id: PathId, caller: CallerDep, key: OptionalKey, db: Db) -> Response:
    """Give an open hold back, whole."""
    done = await ledger.release(
        db, hold_id=hold_id, owners=caller.owners, key=key, request_id=caller.request_id
    )
    return _shown(done)
