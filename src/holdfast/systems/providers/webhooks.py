"""Signed webhooks, by the Standard Webhooks specification, in order per receiver."""

import json
from base64 import b64encode
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

from holdfast.kernel import outbox
from holdfast.kernel.outbox import DeliveryFailed, DeliveryPointless, DeliveryRefused, Effect
from holdfast.postgres.pool import Database
from holdfast.systems.providers.outward import Outward

_GONE = 410
_USER_AGENT = "Holdfast-Webhooks/1"


def new_secret() -> str:
    """Make a signing secret: `whsec_` and 32 random bytes in base64."""
    return "whsec_" + b64encode(token_bytes(32)).decode()


def message(effect: Effect) -> dict[str, Any]:
    """Return what a receiver gets: the effect, its place in its own stream, and its data."""
    copied = effect.payload
    return {
        "id": str(effect.source),
        "type": effect.topic,
        "timestamp": copied["at"],
        "stream": copied["stream"],
        "sequence": copied["seq"],
        "data": copied["data"],
    }


class WebhookChannel:
    """Carries the streams of webhooks: one POST an effect, signed, again until it is taken.

    `webhook-id` is the effect's own id, the same over all deliveries; `stream` and `sequence` say
    whose effect it is and its place among them.
    """

    def __init__(self, db: Database, outward: Outward) -> None:
        self._db = db
        self._outward = outward

    async def deliver(self, effect: Effect) -> None:
        """Send one effect.

        Raises DeliveryFailed (any answer but 2xx), DeliveryRefused (410, or an address that may
        not be sent to), DeliveryPointless (the webhook was removed).
        """
        from standardwebhooks import Webhook  # an extra

        to = await outbox.webhook_address(self._db, stream=effect.stream)
        if to is None:
            raise DeliveryPointless("the webhook was removed")
        body = json.dumps(message(effect), ensure_ascii=False, separators=(",", ":"))
        now = datetime.now(UTC)
        answer = await self._outward.post(
            to.url,
            body.encode(),
            {
                "content-type": "application/json",
                "user-agent": _USER_AGENT,
                "webhook-id": str(effect.source),
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(to.secret).sign(str(effect.source), now, body),
            },
        )
        if answer.status == _GONE:
            raise DeliveryRefused("410: the receiver wants no more")
        if not 200 <= answer.status < 300:
            raise DeliveryFailed(f"{answer.status}: {answer.text[:200]}", answer.retry_after)
