"""Request → who is asking."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import Header, Request

from holdfast.config import Settings, development_key
from holdfast.errors import (
    TokenAlgorithm,
    TokenClaims,
    TokenExpired,
    TokenMalformed,
    TokenMissing,
    TokenNotYetValid,
    TokenSignature,
)
from holdfast.systems import accounts
from holdfast.systems.accounts import Account, Role
from holdfast.web.problems import request_id_of

_LEEWAY = 5  # seconds


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. `family` holds the account and its aliases: what is theirs is his.

    `account` is the row as the sign-in found it, with its wallet.
    """

    account_id: UUID
    role: Role
    family: tuple[UUID, ...]
    name: str | None
    locale: str
    request_id: str
    account: Account

    @property
    def owners(self) -> tuple[UUID, ...] | None:
        """Whose things the caller may see and end: his family's; of an admin everybody's (None)."""
        return None if self.role == "admin" else self.family


async def caller(
    request: Request,
    authorization: Annotated[str | None, Header(description="`Bearer` and a token.")] = None,
) -> Caller:
    """Say who is asking (a dependency). Raises the 401 that says why nobody is known."""
    del authorization  # named for the OpenAPI page; `identify` reads the headers itself
    return await identify(request)


async def identify(request: Request) -> Caller:
    """Say who is asking, by the request's headers. Raises the 401 that says why nobody is known."""
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if not scheme:
        raise TokenMissing
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenMalformed
    state = request.app.state
    claims = _claims(token.strip(), public_key(state.settings))
    account = await accounts.sign_in(
        state.db, kind="dev", subject=str(claims["sub"]), name=str(claims["sub"])[:200]
    )
    return known(request, account)


def known(request: Request, account: Account) -> Caller:
    """Make the caller out of his account, and have answers speak his language by default."""
    request.scope["state"]["account_locale"] = account.locale
    return Caller(
        account_id=account.id,
        role=account.role,
        family=(account.id,),
        name=account.name,
        locale=account.locale,
        request_id=request_id_of(request.scope),
        account=account,
    )


def _claims(token: str, key: str) -> dict[str, object]:
    try:
        return dict(
            jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                leeway=_LEEWAY,
                options={"require": ["exp", "iat", "sub", "sid"], "verify_aud": False},
            )
        )
    except jwt.ExpiredSignatureError as problem:
        raise TokenExpired from problem
    except jwt.ImmatureSignatureError as problem:
        raise TokenNotYetValid from problem
    except jwt.InvalidAlgorithmError as problem:
        raise TokenAlgorithm from problem
    except jwt.InvalidSignatureError as problem:
        raise TokenSignature from problem
    except jwt.MissingRequiredClaimError as problem:
        raise TokenClaims(claim=problem.claim) from problem
    except jwt.InvalidTokenError as problem:
        raise TokenMalformed from problem


def public_key(settings: Settings) -> str:
    """Return the public half of this machine's development key, made at the first call (PEM)."""
    path = development_key(settings)
    if not path.exists():
        _make_key(path)
    return path.with_suffix(".pub").read_text("ascii")


def mint(settings: Settings, subject: str, *, hours: float = 12) -> str:
    """Return a development token for `subject`, signed by this machine's key."""
    public_key(settings)
    now = int(time.time())
    claims = {
        "sub": subject,
        "sid": f"dev_{secrets.token_hex(8)}",
        "iat": now,
        "exp": now + int(hours * 3600),
    }
    return jwt.encode(claims, development_key(settings).read_text("ascii"), algorithm="RS256")


def _make_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path.with_suffix(".pub").write_bytes(public)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
