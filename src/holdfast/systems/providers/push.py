"""Web Push: notifications in the browser of whoever asked for them, signed by VAPID.

The payload is encrypted for the browser alone (RFC 8291) by pywebpush; the request is ours, so that
an endpoint is judged like any address that others chose.
"""

import contextlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast import messages
from holdfast.errors import NotFound
from holdfast.kernel import outbox
from holdfast.kernel.outbox import (
    DeliveryFailed,
    DeliveryPointless,
    DeliveryPostponed,
    DeliveryRefused,
    Effect,
)
from holdfast.postgres.pool import Database
from holdfast.systems.providers.outward import Outward

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
_SIGNED_FOR = timedelta(hours=12)  # push services take at most 24
_GONE = (404, 410)
_NEVER = (400, 401, 403, 413)  # another try would say the same


class Sender:
    """Who sends: the VAPID key and the contact (`mailto:` or https) that push services are told."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, subject: str) -> None:
        self._key = key
        self._subject = subject

    @classmethod
    def of(cls, private_key: str | None, secret: bytes, subject: str) -> "Sender":
        """Take a VAPID private key (32 bytes, base64url), or derive one from the server's secret.

        Browsers are bound to the key: another one means that everybody subscribes anew.
        """
        from py_vapid import Vapid  # an extra

        if private_key is not None:
            return cls(Vapid.from_string(private_key).private_key, subject)
        derived = HKDF(hashes.SHA256(), 48, None, b"holdfast vapid").derive(secret)
        scalar = int.from_bytes(derived, "big") % (_ORDER - 1) + 1
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()), subject)

    @property
    def public_key(self) -> str:
        """What a browser subscribes with (applicationServerKey): 65 bytes in base64url."""
        raw = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return urlsafe_b64encode(raw).rstrip(b"=").decode()

    def headers(self, endpoint: str) -> dict[str, str]:
        """Sign for the push service of an endpoint."""
        from py_vapid import Vapid  # an extra

        place = urlsplit(endpoint)
        until = datetime.now(UTC) + _SIGNED_FOR
        claims = {
            "aud": f"{place.scheme}://{place.netloc}",
            "exp": int(until.timestamp()),
            "sub": self._subject,
        }
        signed: dict[str, str] = Vapid(self._key).sign(claims)
        return signed


def notice(effect: Effect, locale: str) -> dict[str, Any]:
    """Return what the browser shows: the kind's texts in the reader's language, and where to go."""
    data = effect.payload["data"]
    facts = {name: _said(value, locale) for name, value in data.items()}
    told = messages.translator(locale)
    return {
        "id": str(effect.source),
        "topic": effect.topic,
        "title": told.text(f"notice.{effect.topic}.title", facts),
        "body": told.text(f"notice.{effect.topic}.body", facts),
        "url": f"/enrolments/{data['enrolment']}" if "enrolment" in data else "/",
        "at": effect.payload["at"],
    }


def _said(value: Any, locale: str) -> Any:
    """Return a fact in the reader's language, where it is a text in several."""
    if not isinstance(value, Mapping):
        return value
    return value.get(locale) or value.get(messages.DEFAULT) or next(iter(value.values()), "")


class PushChannel:
    """Carries the streams of browsers."""

    def __init__(self, db: Database, outward: Outward, sender: Sender) -> None:
        self._db = db
        self._outward = outward
        self._sender = sender

    async def deliver(self, effect: Effect) -> None:
        """Send one notification.

        Raises DeliveryPostponed (quiet hours), DeliveryPointless (the browser is gone: its
        subscription is removed), DeliveryFailed, DeliveryRefused.
        """
        to = await outbox.push_address(self._db, stream=effect.stream, topic=effect.topic)
        if to is None:
            raise DeliveryPointless("the browser was removed")
        if to.quiet_seconds > 0:
            raise DeliveryPostponed("quiet hours", to.quiet_seconds)
        headers = {
            **self._sender.headers(to.endpoint),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(to.ttl_seconds),
            "urgency": to.urgency,
            "topic": effect.source.hex,  # of two with one id, a waiting browser gets one
        }
        body = _encrypted(to, json.dumps(notice(effect, to.locale), ensure_ascii=False))
        answer = await self._outward.post(to.endpoint, body, headers)
        if answer.status in _GONE:
            await self._forget(effect)
        if answer.status in _NEVER:
            raise DeliveryRefused(f"{answer.status}: {answer.text[:200]}")
        if not 200 <= answer.status < 300:
            raise DeliveryFailed(f"{answer.status}: {answer.text[:200]}", answer.retry_after)

    async def _forget(self, effect: Effect) -> None:
        with contextlib.suppress(NotFound):  # somebody was faster
            await outbox.unsubscribe(self._db, subscription_id=effect.stream, owners=None)
        raise DeliveryPointless("the browser is gone")


def _encrypted(to: outbox.PushAddress, text: str) -> bytes:
    from pywebpush import WebPusher  # an extra

    keys = {"p256dh": to.p256dh, "auth": to.auth}
    pusher = WebPusher({"endpoint": to.endpoint, "keys": keys})
    body: bytes = pusher.encode(text.encode(), content_encoding="aes128gcm")["body"]
    return body
