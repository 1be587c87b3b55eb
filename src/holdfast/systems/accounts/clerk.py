"""What Clerk tells us: somebody signed up, somebody is gone. Signed by Svix's scheme."""

import importlib
from collections.abc import Mapping
from typing import Any

from holdfast.errors import NotFound, SettingInvalid, SignatureInvalid
from holdfast.postgres.pool import Handle
from holdfast.systems.accounts.erasure import forget
from holdfast.systems.accounts.identity import sign_in

_PARTS = ("id", "timestamp", "signature")
_NAME_MOST = 200  # characters


class Webhook:
    """Verifies what claims to come from Clerk: the signature, and that it is of now."""

    def __init__(self, secret: str) -> None:
        """Take the signing secret (`whsec_…`). Raises SettingInvalid."""
        try:
            library = importlib.import_module("standardwebhooks")
            self._verify = library.Webhook(secret).verify
        except ImportError:
            raise SettingInvalid(
                name="HOLDFAST_CLERK_WEBHOOK_SECRET",
                given="set",
                allowed="left out unless `pip install 'holdfast[webhooks]'` was done",
            ) from None
        except (ValueError, RuntimeError):
            raise SettingInvalid(
                name="HOLDFAST_CLERK_WEBHOOK_SECRET",
                given="not shown (it is secret)",
                allowed="`whsec_` and base64",
            ) from None
        self._problems = (library.WebhookVerificationError, ValueError, TypeError)

    def read(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Return the event. Raises SignatureInvalid for anything that is not Clerk's, or not JSON.

        The library raises plain ValueErrors for headers that it cannot read.
        """
        named = {
            f"webhook-{part}": headers.get(f"svix-{part}") or headers.get(f"webhook-{part}", "")
            for part in _PARTS
        }
        try:
            event = self._verify(body, named)
        except self._problems:
            raise SignatureInvalid from None
        if not isinstance(event, dict):
            raise SignatureInvalid
        return event


async def receive(db: Handle, event: Mapping[str, Any], request_id: str | None = None) -> None:
    """Do what an event asks: make an account, or erase one. May come twice; others are let pass."""
    data = event.get("data")
    subject = data.get("id") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(subject, str) or not 0 < len(subject) < 256:
        return
    if event.get("type") == "user.created":
        parts = [data.get("first_name"), data.get("last_name")]
        name = " ".join(part.strip() for part in parts if isinstance(part, str) and part.strip())
        await sign_in(db, kind="clerk", subject=subject, name=name[:_NAME_MOST] or None)
    elif event.get("type") == "user.deleted":
        try:
            await forget(db, kind="clerk", subject=subject, actor="clerk", request_id=request_id)
        except NotFound:
            return  # never was here, or is gone already
