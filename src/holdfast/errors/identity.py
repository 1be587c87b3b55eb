"""Refusals about who is asking: session tokens, devices, tickets, accounts."""

from __future__ import annotations

from holdfast.errors.tree import Refusal


class Unauthenticated(Refusal):
    """Nobody is known to be asking: every 401 about a token, a device or a ticket."""

    code, status = "unauthenticated", 401


class TokenMissing(Unauthenticated):
    """No Authorization header, no device, no ticket."""

    code = "token_missing"


class TokenMalformed(Unauthenticated):
    """Not a JWT, or not a bearer one."""

    code = "token_malformed"


class TokenExpired(Unauthenticated):
    """`exp` has passed by more than the leeway."""

    code = "token_expired"


class TokenNotYetValid(Unauthenticated):
    """`nbf` or `iat` lies ahead by more than the leeway."""

    code = "token_not_yet_valid"


class TokenSignature(Unauthenticated):
    """The signature does not match the key it names."""

    code = "token_signature"


class TokenAlgorithm(Unauthenticated):
    """Signed by anything but RS256 (`none` and HMAC among them)."""

    code = "token_algorithm"


class TokenKeyUnknown(Unauthenticated):
    """The key id is in no key set we trust."""

    code = "token_key_unknown"


class TokenIssuer(Unauthenticated):
    """`iss` is not the pinned issuer."""

    code = "token_issuer"


class TokenParty(Unauthenticated):
    """`azp` is not in HOLDFAST_CLERK_PARTIES."""

    code = "token_party"


class TokenAudience(Unauthenticated):
    """`aud` is not the configured audience."""

    code = "token_audience"


class TokenClaims(Unauthenticated):
    """A required claim is absent or has a wrong type; facts: `claim`."""

    code = "token_claims"


class SessionPending(Unauthenticated):
    """`sts` is `pending`: the sign-in was begun and not finished."""

    code = "session_pending"


class SignatureInvalid(Unauthenticated):
    """A webhook's signature or timestamp does not hold."""

    code = "signature_invalid"


class TicketInvalid(Unauthenticated):
    """An event-stream ticket is unknown, forged or past its seconds."""

    code = "ticket_invalid"


class DeviceIdInvalid(Refusal):
    """X-Device-Id is not 10-128 characters of `[A-Za-z0-9._:-]`."""

    code, status = "device_id_invalid", 400


class DeviceSecretMalformed(Refusal):
    """X-Device-Secret is not 32-128 characters."""

    code, status = "device_secret_malformed", 400


class DeviceSecretRequired(Unauthenticated):
    """A device id came without its secret."""

    code = "device_secret_required"


class DeviceSecretInvalid(Unauthenticated):
    """The secret is not the one this device registered."""

    code = "device_secret_invalid"


class LinkSecretInvalid(DeviceSecretInvalid):
    """The same, of the device named in the body of a link: the caller himself is known."""

    status = 403


class DeviceLinked(Unauthenticated):
    """The device was linked to a person: sign in instead."""

    code = "device_linked"


class LinkTaken(DeviceLinked):
    """The device to be linked belongs to somebody else already."""

    status = 409


class AccountErased(Refusal):
    """The account was erased; only its numbers are left."""

    code, status = "account_erased", 409
