"""Request → who is asking.

A session token is verified without asking anybody; then one statement finds or makes the account.
A device shows its id and the secret that it made. Cookies count only for the console's pages,
which guard their forms: the API never reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Request

from holdfast.errors import (
    DeviceIdInvalid,
    DeviceSecretMalformed,
    RateLimited,
    TokenMalformed,
    TokenMissing,
    Unauthenticated,
)
from holdfast.systems import accounts
from holdfast.systems.accounts import Account, Role
from holdfast.systems.accounts.tokens import Verified, Verifier
from holdfast.web.problems import request_id_of
from holdfast.web.rates import Rates, address

SESSION_COOKIE = "__session"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `family` holds the account and its aliases: what is theirs is his.

    `account` is the row as the sign-in found it, with its wallet. `impersonator` is somebody of
    the vendor's own who looks through this person's eyes.
    """

    account_id: UUID
    role: Role
    family: tuple[UUID, ...]
    name: str | None
    locale: str
    request_id: str
    account: Account
    impersonator: str | None = None

    @property
    def owners(self) -> tuple[UUID, ...] | None:
        """Whose things the caller may see and end: his family's; of an admin everybody's (None)."""
        return None if self.role == "admin" else self.family

    @property
    def actor(self) -> str:
        """How the audit names who did it: the account, and who acted in its name."""
        if self.impersonator is None:
            return str(self.account_id)
        return f"{self.account_id} by {self.impersonator}"


async def identify(request: Request) -> Caller:
    """Say who is asking, by the request's headers (a dependency, `CallerDep`).

    Declares no headers: the OpenAPI page knows a route of this dependency as one of signed-in
    people. Raises the 401 that says why nobody is known.
    """
    if "authorization" in request.headers:
        return await _signed_in(request, await verified(request))
    if "x-device-id" in request.headers:
        return await _device(request)
    raise TokenMissing


async def session(request: Request) -> Caller:
    """Say who looks at a page of the console, by the session cookie; a header works too."""
    cookie = request.cookies.get(SESSION_COOKIE)
    if "authorization" in request.headers or cookie is None:
        return await identify(request)
    return await _signed_in(request, await _verified(request, cookie))


async def verified(request: Request) -> Verified:
    """Say of whom the request's token speaks, without making an account of him."""
    given = request.headers.getlist("authorization")
    if not given:
        raise TokenMissing
    scheme, _, token = given[0].strip().partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise failed(request, TokenMalformed())
    return await _verified(request, token.strip())


async def _verified(request: Request, token: str) -> Verified:
    verifier: Verifier = request.app.state.verifier
    try:
        return await verifier.verify(token)
    except Unauthenticated as problem:
        raise failed(request, problem) from None


async def _signed_in(request: Request, who: Verified) -> Caller:
    account = await _admitted(
        request,
        kind=who.kind,
        subject=who.subject,
        name=who.subject[:200] if who.kind == "dev" else None,
        impersonator=who.impersonator,
        session=who.session,
    )
    return known(request, account, impersonator=who.impersonator)


async def _device(request: Request) -> Caller:
    ids, secrets = (request.headers.getlist(f"x-device-{part}") for part in ("id", "secret"))
    if len(ids) > 1:
        raise DeviceIdInvalid
    if len(secrets) > 1:
        raise DeviceSecretMalformed
    rates: Rates = request.app.state.rates
    for name in _failing(request, ids[0]):  # here a guess costs a look into the database
        rates.failures.refuse_spent(name)
    try:
        account = await _admitted(
            request,
            kind="device",
            subject=ids[0],
            secret=secrets[0] if secrets else None,
            secret_required=request.app.state.settings.device_auth == "secret",
        )
    except Unauthenticated as problem:
        raise failed(request, problem, ids[0]) from None
    return known(request, account)


async def _admitted(request: Request, **identity: Any) -> Account:
    """Find or make the account, within the number of accounts that an address may make."""
    rates: Rates = request.app.state.rates
    name = address(request.scope)
    may_create = not rates.accounts.spent(name)
    if may_create:
        rates.accounts.count(name)  # reserved: parallel first calls may not pass together
    made = False
    try:
        account = await accounts.sign_in(request.app.state.db, may_create=may_create, **identity)
        made = account.created
    except RateLimited:
        rates.accounts.tell(request.scope, name)
        rates.accounts.refuse_spent(name)
        raise
    finally:
        if may_create and not made:
            rates.accounts.count(name, -1)
    if made:
        rates.accounts.tell(request.scope, name)
    return account


def _failing(request: Request, device: str | None = None) -> list[tuple[str, ...]]:
    """Under which names a failed sign-in is counted: the address, and the device at it."""
    found = address(request.scope)
    return [(found,)] if device is None else [(found,), (found, device)]


def failed(
    request: Request, problem: Unauthenticated, device: str | None = None
) -> Unauthenticated | RateLimited:
    """Count a failed sign-in; returns what to raise."""
    rates: Rates = request.app.state.rates
    names = _failing(request, device)
    spent = any(rates.failures.spent(name) for name in names)
    for name in names:
        rates.failures.count(name)
    rates.failures.tell(request.scope, names[-1])
    if spent:
        return RateLimited(retry_after=max(1, round(rates.failures.used(names[0])[1])))
    return problem


def known(request: Request, account: Account, impersonator: str | None = None) -> Caller:
    """Make the caller out of his account, and have answers speak his language by default.

    Raises RateLimited for a caller who asked too often this minute.
    """
    request.scope["state"]["account_locale"] = account.locale
    rates: Rates = request.app.state.rates
    rates.requests.tell(request.scope, account.id)
    rates.requests.refuse_spent(account.id)
    rates.requests.count(account.id)
    rates.requests.tell(request.scope, account.id)
    return Caller(
        account_id=account.id,
        role=account.role,
        family=account.family,
        name=account.name,
        locale=account.locale,
        request_id=request_id_of(request.scope),
        account=account,
        impersonator=impersonator,
    )
