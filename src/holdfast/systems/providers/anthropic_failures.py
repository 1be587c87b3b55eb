"""What each failure of Anthropic's API means for a job: never, not now, or not for anybody."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anthropic
import httpx2

from holdfast.systems.providers.story import OutOfService, Overloaded, ProviderError, Rejected


class TooMuch(Exception):
    """The answer is larger than any story."""


# A running stream raises httpx2's own errors, and ValueError for what is no JSON or no UTF-8.
UNUSABLE = (
    anthropic.AnthropicError,
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    TooMuch,
    ValueError,
)

# An empty account answers 400 `invalid_request_error`, like a bad prompt: only its text differs.
_NO_CREDIT = re.compile(r"credit balance is too low|reached your .{0,30}usage limits", re.I)
_NO_CREDIT_CODES = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)
_DISABLED = re.compile(r"organization has been disabled", re.I)

# An error event comes in a stream that began with 200; its type says what the status would have.
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def failure_of(error: Exception) -> ProviderError:
    """Translate an error of the SDK, or of the connection under it."""
    if isinstance(error, anthropic.APIStatusError):
        return _of_status(error)
    if isinstance(error, anthropic.APIConnectionError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    reason = f"{type(error).__name__}: {error}"
    match error:
        case TooMuch():
            return Overloaded("story_too_long", reason=reason)
        case anthropic.CredentialsError():
            return OutOfService("provider_key_refused", reason=reason)
        case (
            httpx2.UnsupportedProtocol()
            | httpx2.LocalProtocolError()
            | httpx2.InvalidURL()
            | httpx2.TooManyRedirects()
        ):
            return OutOfService("provider_misconfigured", reason=reason)
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.ProxyError():
            return Overloaded("provider_unreachable", reason=reason)
        case httpx2.TimeoutException():
            return Overloaded("provider_silent", reason=reason)
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return Overloaded("provider_cut", reason=reason)
        case anthropic.APIConnectionError():
            return Overloaded("provider_unreachable", reason=reason)
        case _:
            return Overloaded("provider_failed", reason=reason)


def _of_status(error: anthropic.APIStatusError) -> ProviderError:
    """Translate an answer of the API, or an error event in a stream that began with 200."""
    said = str(error.api_message or error.message)
    status = error.status_code
    if status < 300:
        status = _STATUS_OF.get(str(error.type), 500)
    reason = f"{error.status_code} {error.type}: {said} ({error.request_id})"
    wait = _retry_after(error.response.headers)
    if (
        status == 402
        or error.error_code in _NO_CREDIT_CODES
        or (status < 500 and _NO_CREDIT.search(said))
    ):
        return OutOfService("provider_out_of_credit", reason=reason, retry_after=wait)
    if status in (401, 403) or error.error_code == "organization_on_hold" or _DISABLED.search(said):
        return OutOfService("provider_key_refused", reason=reason, retry_after=wait)
    if status in (404, 405) or status < 400:
        return OutOfService("provider_misconfigured", reason=reason, retry_after=wait)
    if status in (400, 413, 422) and error.type is not None:  # without one, a proxy said it
        return Rejected("provider_rejected", reason=reason)
    if status == 429:
        return Overloaded("provider_rate_limited", reason=reason, retry_after=wait)
    if status in (503, 529):
        return Overloaded("provider_overloaded", reason=reason, retry_after=wait)
    return Overloaded("provider_failed", reason=reason, retry_after=wait)


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Read `Retry-After`, seconds or a date, as seconds from now; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
