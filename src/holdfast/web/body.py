"""What a request's body may be: strict JSON into strict, closed, camelCase shapes.

What is not JSON at all (syntax, a key given twice, NaN, a lone surrogate, not UTF-8) is 400
`malformed_json`. JSON that PostgreSQL or a 64-bit program could not hold (NUL characters, integers
past 64 bits, numbers past a double) is 422 with a pointer, like any wrong type or unknown field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from holdfast.errors import HoldfastError, Invalid, MalformedJson, UnsupportedMediaType

DEPTH = 100  # containers within containers; a shape may allow less

_LEAST, _MOST = -(2**63), 2**63 - 1
_PAST = 2**64  # stands for any integer that is too long to be read
# What a plain document does not contain. Only a document that does is walked, value by value.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|[0-9]{19}|[0-9][eE]|[0-9]\.[0-9]{300}")
_CANONICAL = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body that could not be read, kept until the caller is known: strangers get 401 first."""

    problem: HoldfastError


class Body(BaseModel):
    """A request body: strict types, no unknown fields, camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, from_attributes=False
    )

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, Unreadable):
            raise value.problem
        if isinstance(value, bytes):
            raise UnsupportedMediaType(accepted="application/json")
        return value


def wrong(code: str, **facts: Any) -> PydanticCustomError:
    """Return what a validator raises for a field: a field code of the catalogues and its facts."""
    return PydanticCustomError("holdfast", "{code}", {"code": code, **facts})


def _canonical(value: Any) -> Any:
    if isinstance(value, str) and not _CANONICAL.match(value):
        raise wrong("not_a_uuid")
    return value


# `Annotated[UUID, Written]`: an id in a body or a path, only in its usual form.
Written = BeforeValidator(_canonical)
# `Annotated[UUID, Written, Loose]`: JSON has no ids, so a strict shape must let text be one.
Loose = Field(strict=False)


def parse(raw: bytes) -> Any:
    """Read a document. Raises MalformedJson, or Invalid pointing at what cannot be held."""
    try:
        text = raw.decode("utf-8")
        suspect = _SUSPECT.search(raw) is not None
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=_integer if suspect else None,
        )
    except RecursionError:
        raise Invalid(errors=[{"pointer": "", "code": "too_deep", "most": DEPTH}]) from None
    except ValueError:  # of the syntax, of UTF-8, or of the two functions below
        raise MalformedJson from None
    if suspect and (problems := list(_unfit(value, ""))):
        raise Invalid(errors=problems)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is given twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _integer(digits: str) -> int:
    return int(digits) if len(digits) < 30 else _PAST


def _unfit(value: Any, pointer: str) -> Iterator[dict[str, Any]]:
    """Find what neither PostgreSQL nor a 64-bit program can hold. A lone surrogate is no text."""
    match value:
        case str():
            yield from _unfit_text(value, pointer)
        case bool() | None:
            return
        case int() if not _LEAST <= value <= _MOST:
            over = value > 0
            limit = {"most": _MOST} if over else {"least": _LEAST}
            yield {"pointer": pointer, "code": "too_big" if over else "too_small", **limit}
        case float() if not math.isfinite(value):
            yield {"pointer": pointer, "code": "malformed"}
        case dict():
            for name, inner in value.items():
                below = f"{pointer}/{escaped(name)}"
                yield from _unfit_text(name, below)
                yield from _unfit(inner, below)
        case list():
            for index, inner in enumerate(value):
                yield from _unfit(inner, f"{pointer}/{index}")


def _unfit_text(text: str, pointer: str) -> Iterator[dict[str, Any]]:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedJson from None
    if "\0" in text:
        yield {"pointer": pointer.replace("\0", "\\u0000"), "code": "nul_character"}


def escaped(name: object) -> str:
    """Return one token of a JSON Pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return parse(await self.body())
        except HoldfastError as problem:
            return Unreadable(problem)


class JsonRoute(APIRoute):
    """A route whose body is read by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, on a request that reads strictly."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def router(**options: Any) -> APIRouter:
    """Return a router for `web/api/*`: strict bodies; a missing content type counts as JSON."""
    return APIRouter(route_class=JsonRoute, strict_content_type=False, **options)


Text = Annotated[str, Field(min_length=1)]
