"""What a form of the console sends: plain fields, read once, no files."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from holdfast.errors import BadRequest, UnsupportedMediaType
from holdfast.web.problems import invalid

MEDIA_TYPE = "application/x-www-form-urlencoded"
_FIELDS = 50  # the most of one form

F = TypeVar("F", bound=BaseModel)


async def fields(request: Request) -> dict[str, str]:
    """Return the fields of the form (a dependency); of one sent twice the last."""
    raw = await request.body()
    if not raw:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPE:
        raise UnsupportedMediaType(accepted=MEDIA_TYPE)
    try:
        found = dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError as problem:
        raise BadRequest from problem
    if any("\0" in value for value in found.values()):
        raise BadRequest
    return found


Fields = Annotated[dict[str, str], Depends(fields)]


def read(kind: type[F], given: dict[str, str]) -> F:
    """Return a form as its shape; fields that are not its own are left out. Raises Invalid."""
    own: dict[str, Any] = {k: v for k, v in given.items() if k in kind.model_fields}
    try:
        return kind.model_validate(own)
    except ValidationError as problem:
        raise invalid(
            {**found, "loc": ("body", *found["loc"])} for found in problem.errors()
        ) from None
