"""The caller's own account and wallet."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import available_timezones

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, Field, WithJsonSchema
from starlette.responses import Response

from holdfast.errors import (
    DeviceIdInvalid,
    DeviceSecretMalformed,
    Forbidden,
    LinkSecretInvalid,
    LinkTaken,
    NotFound,
)
from holdfast.kernel import ledger
from holdfast.systems import accounts
from holdfast.systems.accounts import Account
from holdfast.systems.accounts.tokens import Verified
from holdfast.web.actor import failed, verified
from holdfast.web.body import Body, wrong
from holdfast.web.body import router as json_router
from holdfast.web.problems import request_id_of
from holdfast.web.requests import CallerDep, Db, PageDep
from holdfast.web.responses import Items, Shape, answer, refuses

router = json_router(prefix="/api/me", tags=["me"])

_ZONES = frozenset(available_timezones())


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
    quiet_hours: dict[str, Any] | None
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


def _zone(value: str) -> str:
    if value not in _ZONES:
        raise wrong("malformed")
    return value


Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class QuietBody(Body):
    """When not to be disturbed, on the person's own clock: `22:00` to `07:00`."""

    begin: Clock = Field(alias="from")
    until: Clock


class DescribeBody(Body):
    """What a person says about himself; what is left out stays."""

    locale: Literal["en", "ru", "uk"] = "en"
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    quiet_hours: QuietBody | None = None


class LinkBody(Body):
    """A device and its own secret."""

    device_id: Annotated[
        str, WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9._:-]{10,128}$"})
    ]
    device_secret: Annotated[
        str, WithJsonSchema({"type": "string", "minLength": 32, "maxLength": 128})
    ]


class MovedShape(Shape):
    """What came over: crystals net of a second bonus, live holds, and rows."""

    tokens: int
    holds: int
    jobs: int
    orders: int
    projects: int
    enrolments: int


class LinkedShape(Shape):
    """A link; `bonusKept`: whether the device's welcome bonus survived."""

    moved: MovedShape
    bonus_kept: bool


def account_shape(account: Account) -> AccountShape:
    """Show an account as its owner sees it."""
    return AccountShape(
        id=account.id,
        role=account.role,
        name=account.name,
        locale=account.locale,
        time_zone=account.time_zone,
        quiet_hours=account.quiet_hours,
        created=account.created,
        created_at=account.created_at,
        tokens=TokensShape(balance=account.balance, held=account.held, available=account.available),
    )


@router.get("", response_model=AccountShape)
async def me(caller: CallerDep) -> Response:
    """The caller's account and wallet."""
    return answer(account_shape(caller.account))


@router.patch("", response_model=AccountShape)
async def describe(caller: CallerDep, body: DescribeBody, db: Db) -> Response:
    """Change the caller's name, language, time zone or quiet hours."""
    changes = body.model_dump(exclude_unset=True)
    if body.quiet_hours is not None:
        changes["quiet_hours"] = body.quiet_hours.model_dump(by_alias=True)
    await accounts.describe(db, account_id=caller.account_id, changes=changes)
    return answer(account_shape(await accounts.get(db, account_id=caller.account_id)))


@router.delete("", status_code=204, responses=refuses(NotFound))
async def erase(caller: CallerDep, db: Db) -> Response:
    """Erase the caller: jobs are cancelled, crystals forfeited, everything personal is gone."""
    await accounts.erase(
        db, account_id=caller.account_id, actor=caller.actor, request_id=caller.request_id
    )
    return Response(status_code=204)


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


async def _person(request: Request) -> Verified:
    """Say who is signed in, without making an account: the device's may become his."""
    if "authorization" not in request.headers and "x-device-id" in request.headers:
        raise Forbidden
    return await verified(request)


@router.post(
    "/link",
    response_model=LinkedShape,
    responses=refuses(
        Forbidden, NotFound, LinkSecretInvalid, LinkTaken, DeviceIdInvalid, DeviceSecretMalformed
    ),
)
async def link(
    request: Request,
    who: Annotated[Verified, Depends(_person)],
    body: LinkBody,
    db: Db,
    dry_run: Annotated[
        bool, Query(alias="dryRun", description="Only say what would move.")
    ] = False,
) -> Response:
    """Make a device's account one with the caller's."""
    try:
        linked = await accounts.link(
            db,
            kind=who.kind,
            subject=who.subject,
            device_id=body.device_id,
            secret=body.device_secret,
            dry_run=dry_run,
            request_id=request_id_of(request.scope),
        )
    except LinkSecretInvalid as problem:
        raise failed(request, problem, body.device_id) from None
    return answer(LinkedShape.model_validate(linked))
