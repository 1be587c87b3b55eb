"""Small signed texts that we hand out and take back: cursors, tickets, form tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

_BYTES = 16  # of the signature: 128 bits


class Signer:
    """Signs JSON values for one purpose; what was signed for another does not open here."""

    def __init__(self, secret: bytes) -> None:
        """Take the secret of the installation; each purpose has a key derived from it."""
        self._secret = secret

    def seal(self, purpose: str, value: Any) -> str:
        """Return an opaque text, safe in a URL, that `open` turns back into `value`."""
        payload = json.dumps(value, separators=(",", ":")).encode()
        return (
            base64.urlsafe_b64encode(self._sign(purpose, payload) + payload).rstrip(b"=").decode()
        )

    def open(self, purpose: str, sealed: str) -> Any | None:
        """Return the value, or None for anything that `seal` did not make for this purpose."""
        try:
            raw = base64.b64decode(
                sealed.encode("ascii") + b"=" * (-len(sealed) % 4), altchars=b"-_", validate=True
            )
        except (binascii.Error, UnicodeEncodeError, ValueError):
            return None
        signature, payload = raw[:_BYTES], raw[_BYTES:]
        if not hmac.compare_digest(signature, self._sign(purpose, payload)):
            return None
        return json.loads(payload)

    def _sign(self, purpose: str, payload: bytes) -> bytes:
        key = hmac.digest(self._secret, b"holdfast " + purpose.encode(), hashlib.sha256)
        return hmac.digest(key, payload, hashlib.sha256)[:_BYTES]
