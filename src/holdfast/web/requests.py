"""What a route asks of its request: the database, the caller, keys, versions, pages, ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Header, Path, Query, Request
from pydantic import BeforeValidator, WithJsonSchema

from holdfast.config import Settings
from holdfast.errors import (
    Forbidden,
    IdempotencyKeyMalformed,
    IdempotencyKeyRequired,
    Invalid,
    VersionMismatch,
)
from holdfast.postgres.pool import Database
from holdfast.web.actor import Caller, identify
from holdfast.web.body import Written, wrong
from holdfast.web.problems import locale_of
from holdfast.web.running import Running
from holdfast.web.signing import Signer

T = TypeVar("T")

KEY_MOST = 255  # characters
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?\Z")
_ETAG = re.compile(r'(?:W/)?("?)(?P<version>[0-9]{1,9})\1\Z')


async def _db(request: Request) -> Database:
    db: Database = request.app.state.db
    return db


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _signer(request: Request) -> Signer:
    signer: Signer = request.app.state.signer
    return signer


async def _running(request: Request) -> Running:
    running: Running = request.app.state.running
    return running


async def _locale(request: Request) -> str:
    return locale_of(request.scope)


Db = Annotated[Database, Depends(_db)]
SettingsDep = Annotated[Settings, Depends(_settings)]
SignerDep = Annotated[Signer, Depends(_signer)]
RunningDep = Annotated[Running, Depends(_running)]
CallerDep = Annotated[Caller, Depends(identify)]


async def _admin(caller: CallerDep) -> Caller:
    if caller.role != "admin":
        raise Forbidden
    return caller


AdminDep = Annotated[Caller, Depends(_admin)]
# The language of the answer; ask for it after the caller, whose own language is the default.
Locale = Annotated[str, Depends(_locale)]

# A malformed id in a path is 404, as one that is not there. The name of the parameter chooses the
# code: `order_id` is `order_not_found`, where there is such a code.
PathId = Annotated[UUID, Path(), Written]


def _digits(value: Any) -> Any:
    """Take plain digits only: pydantic would read `1_0`, `1.0` and ` 1` as numbers too."""
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise wrong("wrong_type", expected="integer")
    return value


Digits = BeforeValidator(_digits)
PathNumber = Annotated[int, Path(ge=-(2**31), lt=2**31), Digits]


_KeyHeader = Annotated[
    list[str] | None,
    Header(
        alias="Idempotency-Key",
        description="Names this request: sent again with the same key, it happens once.",
    ),
    WithJsonSchema({"type": "string", "maxLength": KEY_MOST, "pattern": r"^[!-~]+$"}),
]


async def _optional_key(given: _KeyHeader = None) -> str | None:
    if not given:
        return None
    if len(given) > 1 or not _KEY.match(given[0]):
        raise IdempotencyKeyMalformed
    return given[0]


async def required_key(given: _KeyHeader = None) -> str:
    """Return the key of a route that costs something. Raises IdempotencyKeyRequired."""
    key = await _optional_key(given)
    if key is None:
        raise IdempotencyKeyRequired
    return key


OptionalKey = Annotated[str | None, Depends(_optional_key)]
RequiredKey = Annotated[str, Depends(required_key)]


async def _if_match(
    if_match: Annotated[
        str | None, Header(description="The ETag of the version that the change is meant for.")
    ] = None,
) -> int | None:
    """Return the version that must be current; None where any will do.

    What is no ETag of ours is of no version: 412, as for one that has passed.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.match(if_match.strip())
    if found is None:
        raise VersionMismatch
    return int(found["version"])


IfMatch = Annotated[int | None, Depends(_if_match)]


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: up to `limit` items, after an opaque signed cursor."""

    limit: int
    cursor: str | None
    signer: Signer

    @property
    def fetch(self) -> int:
        """How many rows to ask for: one more than shown tells whether there is a next page."""
        return self.limit + 1

    def after(self, of: str, kind: Callable[[Any], T]) -> T | None:
        """Return where the list `of` goes on, read by `kind` (UUID, int); None for its beginning.

        Raises Invalid for a cursor that is not ours, or of another list.
        """
        if self.cursor is None:
            return None
        opened = self.signer.open(f"cursor {of}", self.cursor)
        if opened is None:
            raise Invalid(errors=[{"pointer": "/query/cursor", "code": "cursor"}])
        return kind(opened)

    def answer(
        self, of: str, found: Sequence[T], key: Callable[[T], Any], shape: Callable[[T], Any]
    ) -> dict[str, Any]:
        """Return `{items, nextCursor}` of the rows found by `fetch`.

        `key` gives what `after` will need of the last row shown (a UUID, a number or a list).
        """
        shown = found[: self.limit]
        more = len(found) > self.limit
        last = key(shown[-1]) if more else None
        last = str(last) if isinstance(last, UUID) else last
        return {
            "items": [shape(one) for one in shown],
            "nextCursor": self.signer.seal(f"cursor {of}", last) if more else None,
        }


async def _page(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items."), Digits] = 50,
    cursor: Annotated[
        str | None, Query(max_length=2000, description="`nextCursor` of the page before.")
    ] = None,
) -> Page:
    return Page(limit, cursor, request.app.state.signer)


PageDep = Annotated[Page, Depends(_page)]
