"""Session tokens: RS256 JWTs, verified without asking anybody.

Every refusal is an error of its own, all of them 401. The order is that of trust: form, algorithm,
key, signature, and only then what the token claims. Signatures are PyJWT's work; the claims are
judged here, strictly by type, because a lenient reader takes `"exp": true` for a time.
"""

import hashlib
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt
from jwt.utils import base64url_decode, base64url_encode

from holdfast.errors import (
    SessionPending,
    TokenAlgorithm,
    TokenAudience,
    TokenClaims,
    TokenExpired,
    TokenIssuer,
    TokenKeyUnknown,
    TokenMalformed,
    TokenNotYetValid,
    TokenParty,
    TokenSignature,
)
from holdfast.systems.accounts.identity import Kind
from holdfast.systems.accounts.keys import Keys

LEEWAY_SECONDS = 5
LONGEST = 16_384  # characters of a token
_HELD_MOST = 10_000  # tokens whose signature is remembered
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_NAME = re.compile(r"[^\x00-\x20\x7f]{1,255}")  # a subject, a session, an impersonator


@dataclass(frozen=True, slots=True)
class Trust:
    """One issuer we believe. `issuer` None: not pinned; no `parties`: any site."""

    kind: Kind
    keys: Keys
    issuer: str | None = None
    parties: frozenset[str] = frozenset()
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """Who a token speaks of. `impersonator` is the subject of `act`, who looks through his eyes.

    `expires_at` is in seconds since 1970.
    """

    kind: Kind
    subject: str
    session: str
    expires_at: float
    impersonator: str | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """A signature that held, as long as its key is the one we trust under that name."""

    trust: Trust
    key: Any
    kid: str | None
    claims: dict[str, Any]


class Verifier:
    """Verifies tokens against what is trusted. `clock` gives seconds since 1970.

    A session sends one token with many requests: its signature is computed once, its claims and its
    key are judged every time. Only tokens whose signature held are remembered, by digest.
    """

    def __init__(self, trusts: Sequence[Trust], *, clock: Callable[[], float] = time.time) -> None:
        self._trusts = tuple(trusts)
        self._clock = clock
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._signatures = jwt.PyJWS(algorithms=["RS256"])

    async def verify(self, token: str) -> Verified:
        """Return whom the token speaks of. Raises a subclass of Unauthenticated, never another."""
        digest = hashlib.sha256(token.encode()).digest()
        held = self._held.get(digest)
        if held is None or await held.trust.keys.find(held.kid) is not held.key:
            held = self._held[digest] = await self._signature(token)
            if len(self._held) > _HELD_MOST:
                self._held.popitem(last=False)
        return _judge(held.claims, held.trust, self._clock())

    async def _signature(self, token: str) -> _Held:
        """Find the key that a token names, and hold it to its signature."""
        header = _header(token)
        kid = header.get("kid")
        for trust in self._trusts:
            key = await trust.keys.find(kid)
            if key is not None:
                try:
                    payload = self._signatures.decode(token, key, algorithms=["RS256"])
                except jwt.PyJWTError:
                    raise TokenSignature from None
                return _Held(trust, key, kid, _object(payload, TokenClaims))
        raise TokenKeyUnknown

    async def close(self) -> None:
        """End what is under way for the keys."""
        for trust in self._trusts:
            if close := getattr(trust.keys, "close", None):
                await close()


def _header(token: str) -> dict[str, Any]:
    """Return the header of a token of the right form, signed in the one accepted way."""
    if len(token) > LONGEST or not _FORM.fullmatch(token):
        raise TokenMalformed
    parts = token.split(".")
    try:
        decoded = [base64url_decode(part) for part in parts]
    except ValueError:
        raise TokenMalformed from None
    if any(base64url_encode(d).decode() != p for d, p in zip(decoded, parts, strict=True)):
        raise TokenMalformed  # a second spelling of the same bytes
    header = _object(decoded[0], TokenMalformed)
    if header.get("alg") != "RS256":
        raise TokenAlgorithm
    if "crit" in header or "b64" in header or str(header.get("typ", "JWT")).upper() != "JWT":
        raise TokenMalformed  # extensions that we would have to understand
    if not isinstance(header.get("kid"), str | None) or len(header.get("kid") or "") > 255:
        raise TokenMalformed
    return header


def _object(data: bytes, problem: type[TokenMalformed | TokenClaims]) -> dict[str, Any]:
    """Parse a JSON object in which every name stands once. Raises `problem`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name stands twice")
        return made

    def refuse(_: str) -> NoReturn:
        raise ValueError("not a number of JSON")

    try:
        found = json.loads(data.decode(), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise problem(**({"claim": "JSON"} if problem is TokenClaims else {}))
    return found


def _judge(claims: dict[str, Any], trust: Trust, now: float) -> Verified:
    """Judge the claims of a token whose signature holds."""
    expires = _seconds(claims, "exp", required=True)
    issued = _seconds(claims, "iat", required=True)
    begins = _seconds(claims, "nbf", required="nbf" in claims)
    subject, session = _name(claims, "sub"), _name(claims, "sid")
    if not isinstance(claims.get("iss"), str):
        raise TokenClaims(claim="iss")
    if trust.issuer is not None and claims["iss"] != trust.issuer:
        raise TokenIssuer
    if expires <= now - LEEWAY_SECONDS:
        raise TokenExpired
    if max(issued, begins) > now + LEEWAY_SECONDS:
        raise TokenNotYetValid
    party = claims.get("azp")
    if trust.parties and not (isinstance(party, str) and party in trust.parties):
        raise TokenParty
    if trust.audience is not None and trust.audience not in _audiences(claims):
        raise TokenAudience
    if claims.get("sts", "active") != "active":
        raise SessionPending
    actor = claims.get("act")
    if actor is not None and not isinstance(actor, dict):
        raise TokenClaims(claim="act")
    impersonator = None if actor is None else _name(actor, "sub", told="act")
    return Verified(trust.kind, subject, session, expires, impersonator)


def _seconds(claims: dict[str, Any], claim: str, *, required: bool) -> float:
    value = claims.get(claim)
    if value is None and not required:
        return -math.inf
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise TokenClaims(claim=claim)
    return value


def _name(claims: dict[str, Any], claim: str, told: str | None = None) -> str:
    value = claims.get(claim)
    if not isinstance(value, str) or not _NAME.fullmatch(value) or not _encodable(value):
        raise TokenClaims(claim=told or claim)
    return value


def _encodable(value: str) -> bool:
    """Whether a text is one: JSON can spell half a character (a lone surrogate)."""
    return not re.search(r"[\ud800-\udfff]", value)


def _audiences(claims: dict[str, Any]) -> list[str]:
    given = claims.get("aud")
    listed = given if isinstance(given, list) else [given]
    return [one for one in listed if isinstance(one, str)]
