"""Answers: camelCase shapes, versions as ETags, lists, replays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import to_json
from starlette.responses import Response

from holdfast.errors import HoldfastError

T = TypeVar("T")


class Shape(BaseModel):
    """What an answer looks like: camelCase outside, built from keywords or from a dataclass."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True
    )


class Action(Shape):
    """One thing that could be done; `reason` is the code that a try would get."""

    action: str
    allowed: bool
    reason: str | None = None


class Items(Shape, Generic[T]):
    """One page of a list, newest first."""

    items: list[T]
    next_cursor: str | None = None


class Problem(BaseModel):
    """An error (RFC 9457). Some codes add members of their own."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str
    title: str
    status: int
    code: str
    detail: str
    requestId: str  # noqa: N815 - shown as it is in the OpenAPI page


def render(content: Any) -> bytes:
    """Return shapes (or what holds them) as JSON."""
    return to_json(content, by_alias=True)


def answer(
    content: Any,
    status: int = 200,
    *,
    version: int | None = None,
    replayed: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Render shapes (or what holds them) as JSON; `version` becomes the ETag."""
    made = dict(headers or {})
    if version is not None:
        made["ETag"] = f'"{version}"'
    if replayed:
        made["Idempotency-Replayed"] = "true"
    return Response(
        render(content), status_code=status, media_type="application/json", headers=made
    )


def refuses(*kinds: type[HoldfastError]) -> dict[int | str, dict[str, Any]]:
    """Return `responses=` for a route: its refusal codes by status, for the OpenAPI page."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        listed = by_status.setdefault(kind.status, {"x-codes": []})
        listed["x-codes"].append(kind.code)
    return by_status
