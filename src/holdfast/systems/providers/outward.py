"""HTTP to addresses that others chose: resolved and judged first, and never followed elsewhere.

Whoever may name an address could name one of ours: a metadata service, the database's host. So the
name is resolved here, every address it has must be a public one, and the connection goes to the
address that was judged (asking the name server again could give another answer). Redirects are not
followed: each would be another address.
"""

import asyncio
import email.utils
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from holdfast.kernel.outbox import DeliveryFailed, DeliveryRefused

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_READ_MOST = 2000  # bytes of an answer that are looked at, for the error's text
# Ranges that carry another address inside them, so that they would be a way around the judgement.
_TUNNELS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16",
                                            "2001::/32")))  # fmt: skip
_RETRIABLE_MOST = 86_400.0


class AddressForbidden(DeliveryRefused):
    """The address is not one that messages may be sent to."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: `retry_after` in seconds, the beginning of its `text`."""

    status: int
    retry_after: float | None
    text: str


class Outward:
    """Posts to judged addresses. `allow_private` lets tests send to this machine, also by http."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, follow_redirects=False, trust_env=False, verify=True
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def judge(self, address: str) -> httpx.URL:
        """Return the address with its host resolved to an address that may be sent to.

        Raises AddressForbidden, or DeliveryFailed where the name cannot be resolved now.
        """
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, TypeError, ValueError) as problem:
            raise AddressForbidden("not an address") from problem
        schemes = ("https", "http") if self._allow_private else ("https",)
        if url.scheme not in schemes or not url.host or url.userinfo:
            raise AddressForbidden("not an https address")
        found = await _resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not self._allow_private and not all(map(_public, found)):
            raise AddressForbidden("the address belongs to a private network")
        return url.copy_with(host=found[0])

    async def post(self, address: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """Post to an address. Raises AddressForbidden, or DeliveryFailed without an answer."""
        judged = await self.judge(address)
        named = httpx.URL(address)
        try:
            async with self._client.stream(
                "POST",
                judged,
                content=content,
                headers={**headers, "Host": named.netloc.decode("ascii")},
                extensions={"sni_hostname": named.host},
            ) as answer:
                text = b""
                async for piece in answer.aiter_raw():
                    text += piece
                    if len(text) >= _READ_MOST:
                        break
        except httpx.HTTPError as problem:
            raise DeliveryFailed(f"{type(problem).__name__}: {problem}") from problem
        shown = text[:_READ_MOST].decode("utf-8", "replace")
        return Answer(answer.status_code, _retry_after(answer.headers), shown)


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise DeliveryFailed(f"the name {host} cannot be resolved") from problem
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def _public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif any(parsed in tunnel for tunnel in _TUNNELS):
            return False
    return parsed.is_global and not parsed.is_multicast


def _retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date."""
    given = headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return min(float(given), _RETRIABLE_MOST)
    try:
        until = email.utils.parsedate_to_datetime(given)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), _RETRIABLE_MOST)
