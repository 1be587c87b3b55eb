"""A script out of a text: how a generated story becomes stage 3 of a project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from holdfast.errors import Invalid, NotFound, ScriptMissing, WrongStatus
from holdfast.kernel import queue
from holdfast.postgres.pool import Handle
from holdfast.systems.projects.steps import Saved, save

_SCENE = 1200  # characters a scene aims at
_MOST = 100  # scenes
_WORDS_PER_SECOND = 2.5  # as a narrator reads
_SENTENCE = re.compile(r"(?<=[.!?…])[\"»”)]*\s+")


def script_from_text(text: str) -> dict[str, Any]:
    """Return a `finalScript` whose scenes are the paragraphs of `text`.

    A long paragraph is parted between sentences. `duration` is in seconds, as a narrator reads.
    Raises ValueError where there is nothing to read.
    """
    scenes = [piece for part in re.split(r"\n\s*\n", text) for piece in _parted(part.split())]
    if not scenes:
        raise ValueError("a text without words has no scenes")
    if len(scenes) > _MOST:
        scenes = list(_parted(text.split()))[:_MOST]
    return {
        **timed([{"number": n, "text": scene} for n, scene in enumerate(scenes, 1)]),
        "selectedVariants": {},
    }


def timed(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return scenes with their `totalWords` and `duration` (seconds, as a narrator reads)."""
    words = sum(len(scene["text"].split()) for scene in scenes)
    return {
        "scenes": scenes,
        "totalWords": words,
        "duration": round(words / _WORDS_PER_SECOND),
    }


async def adopt(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    job_id: UUID,
    actor: UUID,
    family: Sequence[UUID],
    if_version: int | None = None,
    request_id: str | None = None,
) -> Saved:
    """Make the text of a finished job the script of a stage; what else it holds stays.

    The job is any of `family`'s whose result has a `text`: a story, or a kind of the user's. Raises
    Invalid (no such job), WrongStatus (not completed), ScriptMissing (no text), and what `save`
    raises.
    """
    try:
        job = await queue.get(db, job_id=job_id, owners=family)
    except NotFound:
        raise Invalid(errors=[{"pointer": "/jobId", "code": "not_found"}]) from None
    if job.status != "completed":
        raise WrongStatus(action="script", status=job.status)
    try:
        script = script_from_text(str((job.result or {}).get("text") or ""))
    except ValueError:
        raise ScriptMissing from None
    return await save(
        db,
        project_id=project_id,
        number=number,
        actor=actor,
        family=family,
        data={"finalScript": script, "jobId": str(job_id)},
        merge=True,
        if_version=if_version,
        request_id=request_id,
    )


def _parted(words: list[str]) -> list[str]:
    """Part a paragraph between sentences where it is longer than a scene."""
    made: list[str] = []
    for sentence in _SENTENCE.split(" ".join(words)):
        if made and len(made[-1]) + len(sentence) < _SCENE:
            made[-1] += " " + sentence
        else:
            made += [sentence[at : at + 2 * _SCENE] for at in range(0, len(sentence), 2 * _SCENE)]
    return made
