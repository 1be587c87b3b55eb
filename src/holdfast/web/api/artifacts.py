"""Files of a job, with ranges: a player asks for the part it needs."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from fastapi import Header
from starlette.responses import Response

from holdfast.errors import RangeNotSatisfiable
from holdfast.kernel import queue
from holdfast.kernel.queue.artifacts import WHOLE
from holdfast.web.body import router as json_router
from holdfast.web.requests import CallerDep, Db, PathId, PathNumber
from holdfast.web.responses import Items, Shape, answer, refuses

router = json_router(prefix="/api/jobs", tags=["jobs"])

_RANGE = re.compile(r"bytes=(?:([0-9]{1,12})-([0-9]{0,12})|-([0-9]{1,12}))\Z")


class ArtifactShape(Shape):
    """One file; `late`: of a worker that had lost its lease, kept but not the result."""

    n: int
    name: str
    media_type: str
    bytes: int
    seconds: float | None
    late: bool
    at: datetime


@router.get("/{job_id}/artifacts", response_model=Items[ArtifactShape])
async def artifacts(job_id: PathId, caller: CallerDep, db: Db) -> Response:
    """What a job has left beside its result."""
    found = await queue.artifacts(db, job_id=job_id, owners=caller.owners)
    if not found:
        await queue.get(db, job_id=job_id, owners=caller.owners)  # nothing there, or no such job?
    items = [ArtifactShape.model_validate(one) for one in found]
    return answer({"items": items, "nextCursor": None})


@router.get(
    "/{job_id}/artifacts/{n}",
    response_class=Response,
    responses={
        200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The bytes of the Range."},
        **refuses(RangeNotSatisfiable),
    },
)
async def artifact(
    job_id: PathId,
    n: PathNumber,
    caller: CallerDep,
    db: Db,
    range_: Annotated[str | None, Header(alias="Range")] = None,
) -> Response:
    """The bytes of one, whole or the one Range that is asked for."""
    skip, most = _wanted(range_)
    part = await queue.artifact(db, job_id=job_id, n=n, owners=caller.owners, skip=skip, most=most)
    known = part.artifact
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{_plain(known.name)}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if (skip, most) == (0, WHOLE):
        return Response(part.data, media_type=known.media_type, headers=headers)
    if not part.data:
        raise RangeNotSatisfiable(bytes=known.bytes)
    last = part.first + len(part.data) - 1
    headers["Content-Range"] = f"bytes {part.first}-{last}/{known.bytes}"
    return Response(part.data, 206, media_type=known.media_type, headers=headers)


def _wanted(asked: str | None) -> tuple[int, int]:
    """Read a Range as (skip, most). Several ranges, or none that can be read: the whole."""
    found = _RANGE.match(asked or "")
    if found is None:
        return 0, WHOLE
    first, last, suffix = found.groups()
    if suffix is not None:
        return (-int(suffix), WHOLE + 1) if int(suffix) else (10**12, 1)
    if last and int(last) < int(first):
        return 0, WHOLE
    return int(first), int(last) - int(first) + 1 if last else WHOLE + 1


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
