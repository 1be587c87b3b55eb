"""Channels: browsers and webhooks, each with a stream of its own, and the kinds of notification."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Kind:
    """A topic that people are told of; its texts are `notice.<topic>.title` and `.body`."""

    topic: str
    quiet: bool
    ttl_seconds: int
    urgency: str
    blocks: bool | None


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser that shows notifications."""

    id: UUID
    endpoint: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A registered browser; `created` is false when its endpoint was known."""

    id: UUID
    created: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Webhook:
    """Somebody's server; `waiting` effects wait for it, or for a decision where `blocked`."""

    id: UUID
    url: str
    topics: list[str]
    created_at: datetime
    waiting: int
    blocked: bool


@dataclass(frozen=True, slots=True)
class WebhookAddress:
    """Where to send, and what signs it."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class PushAddress:
    """Where to send, in which language, and for how many seconds not to (quiet hours)."""

    endpoint: str
    p256dh: str
    auth: str
    locale: str
    ttl_seconds: int
    urgency: str
    quiet_seconds: float


async def kinds(db: Handle) -> list[Kind]:
    """Return every topic that people are told of."""
    return [Kind(**row) for row in await call(db, "select * from outbox.kinds()")]


async def subscribe(
    db: Handle, *, account_id: UUID, endpoint: str, p256dh: str, auth: str
) -> Subscribed:
    """Register a browser (of a PushSubscription's JSON); of more than twenty the oldest goes."""
    row = await call_one(
        db,
        """select * from outbox.subscribe(account => %(account)s, endpoint => %(endpoint)s,
            p256dh => %(p256dh)s, auth => %(auth)s)""",
        {"account": account_id, "endpoint": endpoint, "p256dh": p256dh, "auth": auth},
    )
    return Subscribed(**row)


async def subscriptions(db: Handle, *, owners: Sequence[UUID]) -> list[Browser]:
    """Return the browsers of a person (his account and its aliases), newest first."""
    rows = await call(
        db, "select * from outbox.subscriptions(owners => %(owners)s)", {"owners": list(owners)}
    )
    return [Browser(**row) for row in rows]


async def unsubscribe(db: Handle, *, subscription_id: UUID, owners: Sequence[UUID] | None) -> None:
    """Remove a browser; what waits for it is called off. `owners` None: whosever it is.

    Raises NotFound.
    """
    row = await call_one(
        db,
        """select outbox.unsubscribe(subscription => %(subscription)s,
            owners => %(owners)s::uuid[]) as code""",
        {"subscription": subscription_id, "owners": None if owners is None else list(owners)},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])


async def add_webhook(
    db: Handle,
    *,
    account_id: UUID,
    url: str,
    topics: Sequence[str],
    secret: str,
    request_id: str | None = None,
) -> tuple[UUID, datetime]:
    """Register a webhook for topics (`courses.day_finished`, `courses.*`, `*`); audited.

    Returns its id and when. The address was judged before (see providers.webhooks).
    """
    row = await call_one(
        db,
        """select * from outbox.add_webhook(account => %(account)s, url => %(url)s,
            topics => %(topics)s::text[], secret => %(secret)s, request => %(request)s)""",
        {
            "account": account_id,
            "url": url,
            "topics": list(topics),
            "secret": secret,
            "request": request_id,
        },
    )
    return row["id"], row["created_at"]


async def webhooks(db: Handle, *, before: UUID | None = None, limit: int = 50) -> list[Webhook]:
    """Return webhooks without their secrets, newest first, those with an id below `before`."""
    rows = await call(
        db,
        "select * from outbox.webhooks(before => %(before)s, at_most => %(limit)s)",
        {"before": before, "limit": limit},
    )
    return [Webhook(**row) for row in rows]


async def remove_webhook(
    db: Handle, *, webhook_id: UUID, actor: str, request_id: str | None = None
) -> None:
    """Remove a webhook; what waits for it is called off. Audited. Raises NotFound."""
    row = await call_one(
        db,
        """select outbox.remove_webhook(webhook => %(webhook)s, actor => %(actor)s,
            request => %(request)s) as code""",
        {"webhook": webhook_id, "actor": actor, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])


async def webhook_address(db: Handle, *, stream: UUID) -> WebhookAddress | None:
    """Return where a webhook's stream goes, or None when it was removed."""
    rows = await call(
        db, "select * from outbox.webhook_address(stream => %(stream)s)", {"stream": stream}
    )
    return WebhookAddress(**rows[0]) if rows else None


async def push_address(db: Handle, *, stream: UUID, topic: str) -> PushAddress | None:
    """Return where a browser's stream goes for a topic, or None when it was removed."""
    rows = await call(
        db,
        "select * from outbox.push_address(stream => %(stream)s, topic => %(topic)s)",
        {"stream": stream, "topic": topic},
    )
    return PushAddress(**rows[0]) if rows else None
