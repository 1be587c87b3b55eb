"""Refusals of the request itself, whatever it was about, and the server's own failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from holdfast import messages
from holdfast.errors.tree import HoldfastError, Refusal


class MalformedJson(Refusal):
    """The body is not JSON: syntax, a duplicate key, NaN, a lone surrogate."""

    code, status = "malformed_json", 400


class BadRequest(Refusal):
    """The request breaks HTTP: a header or a form that cannot be read."""

    code, status = "bad_request", 400


class Invalid(Refusal):
    """Well-formed, but a field has a wrong type or value.

    `errors` lists `{pointer, code, detail}`: a JSON Pointer into the body (or `/query/limit`), a
    field code of the catalogues and its sentence.
    """

    code, status = "invalid", 422

    @classmethod
    def of(cls, problems: Iterable[Mapping[str, Any]], locale: str = messages.DEFAULT) -> Self:
        """Build from `{pointer, code, …}` mappings; what else they hold fills the sentence."""
        told = messages.translator(locale)
        return cls(
            errors=[
                {"pointer": p["pointer"], "code": p["code"], "detail": told.field(p["code"], p)}
                for p in problems
            ]
        )


class TooLarge(Refusal):
    """Well-formed data above its own limit (a stage's data); facts: `most`, in bytes."""

    code, status = "too_large", 422


class PayloadTooLarge(Refusal):
    """The body is above HOLDFAST_BODY_BYTES_MAX; facts: `most`, in bytes."""

    code, status = "payload_too_large", 413


class UnsupportedMediaType(Refusal):
    """The body's media type is not taken here; facts: `accepted`."""

    code, status = "unsupported_media_type", 415


class RangeNotSatisfiable(Refusal):
    """The asked bytes lie outside the artifact; facts: `bytes`, its size."""

    code, status = "range_not_satisfiable", 416


class NotFound(Refusal):
    """Not there, or not yours: the two are told apart to nobody."""

    code, status = "not_found", 404


class MethodNotAllowed(Refusal):
    """The route is there, the method is not; facts: `allowed`."""

    code, status = "method_not_allowed", 405


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    code, status = "forbidden", 403


class CsrfFailed(Refusal):
    """A console form came without its token, or with one of another session."""

    code, status = "csrf_failed", 403


class RateLimited(Refusal):
    """Too many requests; facts: `retry_after`, in seconds."""

    code, status = "rate_limited", 429


class VersionMismatch(Refusal):
    """If-Match or If-None-Match did not hold; facts: `version`, the current one."""

    code, status = "version_mismatch", 412


class IdempotencyKeyRequired(Refusal):
    """The route costs something and came without an Idempotency-Key."""

    code, status = "idempotency_key_required", 400


class IdempotencyKeyMalformed(Refusal):
    """The key is empty, above 255 characters, or not printable ASCII."""

    code, status = "idempotency_key_malformed", 400


class IdempotencyKeyReused(Refusal):
    """The key belongs to a request with another payload."""

    code, status = "idempotency_key_reused", 422


class IdempotencyInFlight(Refusal):
    """The first request with this key still runs; facts: `retry_after`, in seconds."""

    code, status = "idempotency_in_flight", 409


class Internal(HoldfastError):
    """A defect. The request id leads to the log; nothing else is shown."""

    code, status = "internal", 500

    def exposed(self) -> dict[str, Any]:
        """Return nothing: what broke inside is for the log."""
        return {}
