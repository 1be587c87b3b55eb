"""Where news goes: a person's browsers, an admin's webhooks, and what could not be delivered."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, Field
from starlette.responses import Response

from holdfast.config import Settings
from holdfast.errors import EffectNotDead, Forbidden, Invalid, NotFound
from holdfast.kernel import outbox
from holdfast.kernel.outbox import DeliveryFailed
from holdfast.systems.providers.channels import outward, sender
from holdfast.systems.providers.outward import AddressForbidden
from holdfast.systems.providers.webhooks import new_secret
from holdfast.web.actor import Caller
from holdfast.web.body import Body, wrong
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PageDep, PathId, SettingsDep
from holdfast.web.responses import Items, Shape, answer, refuses

router = json_router(prefix="/api", tags=["notifications"])

_TOPIC = re.compile(r"\*|[a-z_]{1,40}\.(?:\*|[a-z_]{1,60})")
_POINT, _SECRET = 65, 16  # bytes of a browser's public key and of its shared secret


def _bytes(size: int) -> AfterValidator:
    def check(text: str) -> str:
        try:
            found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if len(found) != size or (size == _POINT and found[0] != 4):
            raise wrong("malformed")
        return text

    return AfterValidator(check)


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise wrong("malformed")
    return text


class KeysBody(Body):
    """A browser's keys, in base64url."""

    p256dh: Annotated[str, Field(max_length=200, alias="p256dh"), _bytes(_POINT)]
    auth: Annotated[str, Field(max_length=100), _bytes(_SECRET)]


class SubscriptionBody(Body):
    """A PushSubscription, as its toJSON() gives it."""

    endpoint: str = Field(min_length=1, max_length=2000)
    expiration_time: float | None = None
    keys: KeysBody


class WebhookBody(Body):
    """Where to send which topics: `courses.day_finished`, `courses.*` or `*`."""

    url: str = Field(min_length=1, max_length=2000)
    topics: list[Annotated[str, AfterValidator(_topic)]] = Field(min_length=1, max_length=100)


class PushKeyShape(Shape):
    """What a browser subscribes with (applicationServerKey); null without Web Push."""

    public_key: str | None


class SubscriptionShape(Shape):
    """A browser that shows notifications."""

    id: UUID
    endpoint: str
    created_at: datetime


class WebhookShape(Shape):
    """A webhook; `waiting` effects wait for it, or for a decision where `blocked`."""

    id: UUID
    url: str
    topics: list[str]
    created_at: datetime
    waiting: int
    blocked: bool


class NewWebhookShape(Shape):
    """A webhook and its signing secret, which is shown this once."""

    id: UUID
    url: str
    topics: list[str]
    created_at: datetime
    secret: str


class EffectShape(Shape):
    """A dead letter. `source` is the id receivers know it by; `behind` counts what waits."""

    id: UUID
    status: Literal["DEAD"] = "DEAD"
    stream: UUID
    seq: int
    channel: str
    topic: str
    source: UUID
    attempts: int
    error: str | None
    at: datetime
    finished_at: datetime
    behind: int


class DecidedShape(Shape):
    """What a dead letter is now: READY (it leaves again) or SKIPPED."""

    id: UUID
    status: str


def _admin(caller: Caller) -> None:
    if caller.role != "admin":
        raise Forbidden


async def _judge(settings: Settings, url: str, pointer: str) -> None:
    """Refuse an address that messages may not go to. One that cannot be asked now may be taken."""
    way = outward(settings)
    try:
        await way.judge(url)
    except AddressForbidden as problem:
        code = "not_a_url" if "address belongs" not in str(problem) else "address_forbidden"
        raise Invalid.of([{"pointer": pointer, "code": code}]) from problem
    except DeliveryFailed as problem:
        raise Invalid.of([{"pointer": pointer, "code": "not_a_url"}]) from problem
    finally:
        await way.close()


async def known_browser(settings: Settings, body: SubscriptionBody) -> None:
    """Refuse a browser whose endpoint messages may not go to. Raises Invalid."""
    await _judge(settings, body.endpoint, "/endpoint")


@router.get("/push", response_model=PushKeyShape)
async def push_key(settings: SettingsDep) -> Response:
    """The key that a browser subscribes with; public."""
    sends = sender(settings)
    return answer(PushKeyShape(public_key=sends.public_key if sends else None))


@router.post(
    "/me/subscriptions",
    status_code=201,
    response_model=SubscriptionShape,
    responses={200: {"description": "Known before; its keys are the new ones."}},
)
async def subscribe(
    caller: CallerDep, body: SubscriptionBody, db: Db, settings: SettingsDep
) -> Response:
    """Show notifications in this browser."""
    await known_browser(settings, body)
    made = await outbox.subscribe(
        db,
        account_id=caller.account_id,
        endpoint=body.endpoint,
        p256dh=body.keys.p256dh,
        auth=body.keys.auth,
    )
    shown = SubscriptionShape(id=made.id, endpoint=body.endpoint, created_at=made.created_at)
    return answer(shown, 201 if made.created else 200)


@router.get("/me/subscriptions", response_model=Items[SubscriptionShape])
async def subscriptions(caller: CallerDep, db: Db) -> Response:
    """The caller's browsers, newest first."""
    found = await outbox.subscriptions(db, owners=caller.family)
    return answer(
        Items[SubscriptionShape](items=[SubscriptionShape.model_validate(b) for b in found])
    )


@router.delete("/me/subscriptions/{subscription_id}", status_code=204, responses=refuses(NotFound))
async def unsubscribe(subscription_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Show nothing more in this browser."""
    await outbox.unsubscribe(db, subscription_id=subscription_id, owners=caller.family)
    return Response(status_code=204)


@router.post(
    "/webhooks", status_code=201, response_model=NewWebhookShape, responses=refuses(Forbidden)
)
async def add_webhook(
    caller: CallerDep, body: WebhookBody, db: Db, settings: SettingsDep
) -> Response:
    """Send signed webhooks to a public https address (admins). The secret is shown this once."""
    _admin(caller)
    await _judge(settings, body.url, "/url")
    secret = new_secret()
    made, at = await outbox.add_webhook(
        db,
        account_id=caller.account_id,
        url=body.url,
        topics=body.topics,
        secret=secret,
        request_id=caller.request_id,
    )
    shown = NewWebhookShape(id=made, url=body.url, topics=body.topics, created_at=at, secret=secret)
    return answer(shown, 201)


@router.get("/webhooks", response_model=Items[WebhookShape], responses=refuses(Forbidden))
async def webhooks(caller: CallerDep, db: Db, page: PageDep) -> Response:
    """Every webhook, newest first (admins)."""
    _admin(caller)
    found = await outbox.webhooks(db, before=page.after("webhooks", UUID), limit=page.fetch)
    return answer(page.answer("webhooks", found, lambda w: w.id, WebhookShape.model_validate))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=refuses(Forbidden, NotFound))
async def remove_webhook(webhook_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Send nothing more there; what waits is called off (admins)."""
    _admin(caller)
    await outbox.remove_webhook(
        db, webhook_id=webhook_id, actor=caller.actor, request_id=caller.request_id
    )
    return Response(status_code=204)


@router.get("/admin/effects", response_model=Items[EffectShape], responses=refuses(Forbidden))
async def effects(
    caller: CallerDep,
    db: Db,
    page: PageDep,
    status: Annotated[Literal["DEAD"], Query(description="Dead letters.")] = "DEAD",
) -> Response:
    """Dead letters, newest first (admins)."""
    _admin(caller)
    place = f"effects {status}"
    found = await outbox.dead_letters(db, before=page.after(place, UUID), limit=page.fetch)
    return answer(page.answer(place, found, lambda e: e.id, EffectShape.model_validate))


@router.post(
    "/admin/effects/{effect_id}/redrive",
    response_model=DecidedShape,
    responses=refuses(Forbidden, NotFound, EffectNotDead),
)
async def redrive(effect_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Send a dead letter again, and then what waits behind it (admins)."""
    return await _decided(effect_id, caller, db, "redrive")


@router.post(
    "/admin/effects/{effect_id}/skip",
    response_model=DecidedShape,
    responses=refuses(Forbidden, NotFound, EffectNotDead),
)
async def skip(effect_id: PathId, caller: CallerDep, db: Db) -> Response:
    """Pass a dead letter by, and send what waits behind it (admins)."""
    return await _decided(effect_id, caller, db, "skip")


async def _decided(
    effect_id: UUID, caller: Caller, db: Db, action: Literal["redrive", "skip"]
) -> Response:
    _admin(caller)
    status = await outbox.decide(
        db,
        effect_id=effect_id,
        action=action,
        actor=caller.actor,
        request_id=caller.request_id,
    )
    return answer(DecidedShape(id=effect_id, status=status))
