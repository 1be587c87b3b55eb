"""The public keys that session tokens are verified with: one fixed key, or a set behind a URL.

The set is what a stranger could hurt us by: each token names a key, and whoever looks an unknown
name up by asking the issuer can be made to ask by anybody. So one flight at a time, one per
cool-down whatever came of it, and what was fetched stays until a better answer replaces it whole.
A signature that does not hold says nothing about the key and touches nothing here.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import load_pem_x509_certificate

from holdfast.errors import SettingInvalid

FRESH_SECONDS = 3600.0
COOL_DOWN_SECONDS = 30.0
_COLD_COOL_DOWN_SECONDS = 5.0  # while there is no key at all, nobody can sign in
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 262_144
_MOST_KEYS = 64
_SMALLEST_BITS = 2048

_log = logging.getLogger(__name__)


class Keys(Protocol):
    """Where the key of a token is found by the name (`kid`) in its header."""

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """Return the key, or None for one we do not know."""
        ...


class FixedKey:
    """One key, by a PEM. With `kid` it answers to that name only, without to any."""

    def __init__(self, key: RSAPublicKey, kid: str | None = None) -> None:
        self._key = key
        self._kid = kid

    @classmethod
    def from_pem(cls, pem: str) -> "FixedKey":
        """Read a public key or a certificate. Raises SettingInvalid for any but RSA of 2048 up."""
        try:
            key = (
                load_pem_x509_certificate(pem.encode()).public_key()
                if "BEGIN CERTIFICATE" in pem
                else serialization.load_pem_public_key(pem.encode())
            )
        except ValueError:
            key = None
        if not isinstance(key, RSAPublicKey) or key.key_size < _SMALLEST_BITS:
            raise SettingInvalid(
                name="HOLDFAST_CLERK_PEM",
                given="something else",
                allowed=f"an RSA public key of {_SMALLEST_BITS} bits or more",
            )
        return cls(key)

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """Return the key, where the name is its name."""
        return self._key if self._kid in (None, kid) else None


class KeySet:
    """The keys behind a JWKS URL, cached. `clock` gives seconds that never go back.

    A key that is known is used at once, also while the set is old or its endpoint is down. An
    unknown name may cause one fetch per cool-down; in between it is simply unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        cool_down: float = COOL_DOWN_SECONDS,
        fresh: float = FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._cool_down = cool_down
        self._fresh = fresh
        self._clock = clock
        self._transport = transport
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched = self._tried = float("-inf")
        self._flight: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> RSAPublicKey | None:
        """Return the key of this name; may wait for one fetch, never for two."""
        if kid is None:
            return None
        if (key := self._keys.get(kid)) is not None:
            if self._clock() - self._fetched > self._fresh:
                self._depart()  # this caller does not wait for it
            return key
        flight = self._depart()
        if flight is not None:
            await asyncio.shield(flight)  # a caller that goes away does not end it for the others
        return self._keys.get(kid)

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _depart(self) -> asyncio.Task[None] | None:
        """Return the flight there is, or start one, unless it is too early for another."""
        if self._flight is not None and not self._flight.done():
            return self._flight
        pause = self._cool_down if self._keys else min(_COLD_COOL_DOWN_SECONDS, self._cool_down)
        if self._clock() - self._tried < pause:
            return None
        self._tried = self._clock()
        self._flight = asyncio.create_task(self._fetch(), name="jwks")
        return self._flight

    async def _fetch(self) -> None:
        try:
            found = _usable(json.loads(await self._download()))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as problem:
            reason = str(problem) or type(problem).__name__
            _log.warning("keys not fetched from %s: %s", self._url, reason)
            return
        if not found:
            _log.warning("no usable key at %s: the keys we have stay", self._url)
            return
        self._keys, self._fetched = found, self._clock()

    async def _download(self) -> bytes:
        """Return the body. Raises ValueError for one too large, HTTPError for the rest."""
        async with (
            asyncio.timeout(_TIMEOUT_SECONDS),
            httpx.AsyncClient(transport=self._transport, timeout=_TIMEOUT_SECONDS) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            if response.status_code != httpx.codes.OK:  # a redirect is not followed
                raise ValueError(f"status {response.status_code}")
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise ValueError("the answer is too large")
            return body


def _usable(document: Any) -> dict[str, RSAPublicKey]:
    """Return the keys of a JWKS that may verify RS256, by name."""
    listed = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, RSAPublicKey] = {}
    for entry in listed[:_MOST_KEYS] if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("kty") != "RSA":
            continue
        kid = entry.get("kid")
        fit = entry.get("use", "sig") == "sig" and entry.get("alg", "RS256") == "RS256"
        if not isinstance(kid, str) or not fit:
            continue
        try:
            key = jwt.PyJWK(entry, "RS256").key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= _SMALLEST_BITS:
            found[kid] = key
    return found
