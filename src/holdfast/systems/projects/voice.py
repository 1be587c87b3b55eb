"""Voice: a paid job that speaks the script of a project, one sound for each scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from holdfast.errors import Invalid, NotFound, refusal
from holdfast.kernel import queue
from holdfast.kernel.queue.attempts import Attempt, AttemptFailed, Handler
from holdfast.kernel.queue.attempts import OutOfService as Paused
from holdfast.kernel.queue.jobs import Submitted
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.projects.steps import numbered
from holdfast.systems.providers.story import OutOfService, ProviderError
from holdfast.systems.providers.voice import VOICES, Sound, VoiceProvider

KIND = "voice"


@dataclass(frozen=True, slots=True)
class Voicing:
    """One order for a voice, as everybody in the project sees it.

    `account_id` ordered and paid: ask the queue for the job and its sounds by that owner.
    """

    job_id: UUID
    account_id: UUID
    number: int
    voice: str
    status: str
    price: int
    refunded: bool
    progress: dict[str, Any] | None
    error_code: str | None
    error_detail: str | None
    at: datetime


async def voice(
    db: Handle,
    *,
    project_id: UUID,
    number: int,
    actor: UUID,
    family: Sequence[UUID],
    key: str,
    voice: str | None = None,
    request_id: str | None = None,
) -> Submitted:
    """Charge for a voice and queue it, in one round trip, once per key; the caller pays.

    `voice` is one of VOICES; None speaks the language each scene is in. What is spoken is the
    script as it is now, whatever is written later.

    Raises InsufficientTokens (needed, available; the key stays free), ScriptMissing, Invalid (a
    scene without text, or too long), IdempotencyKeyReused, NotFound, Retryable.
    """
    if voice is not None and voice not in VOICES:
        allowed = ", ".join(VOICES)
        raise Invalid(errors=[{"pointer": "/voice", "code": "not_a_choice", "allowed": allowed}])
    row = await call_one(
        db,
        """select * from projects.voice(project => %(project)s, number => %(number)s,
            actor => %(actor)s, family => %(family)s::uuid[], key => %(key)s,
            voice => %(voice)s, request_id => %(request)s)""",
        {
            "project": project_id,
            "number": numbered(number),
            "actor": actor,
            "family": list(family),
            "key": key,
            "voice": voice,
            "request": request_id,
        },
    )
    match row["code"]:
        case "ok":
            return Submitted(row["job_id"], row["price"], row["at"], row["replayed"])
        case "no_such_stage":
            raise NotFound
        case "required" | "too_long" | "too_many" as code:
            scene = "" if row["scene"] is None else f"/{row['scene']}"
            limit = {} if row["most"] is None else {"most": row["most"]}
            pointer = f"/data/finalScript/scenes{scene}"
            raise Invalid(errors=[{"pointer": pointer, "code": code, **limit}])
    raise refusal(row["code"], needed=row["needed"], available=row["available"])


async def voicings(
    db: Handle, *, project_id: UUID, family: Sequence[UUID], limit: int = 20
) -> list[Voicing]:
    """Return the orders for a voice in a project, newest first; none for a stranger."""
    rows = await call(
        db,
        """select * from projects.voicings(project => %(project)s, family => %(family)s::uuid[],
            at_most => %(limit)s)""",
        {"project": project_id, "family": list(family), "limit": limit},
    )
    return [Voicing(**row) for row in rows]


async def scenes(db: Handle, *, project_id: UUID, job_id: UUID) -> tuple[str, list[str]] | None:
    """Return what a job is to speak, as (voice, texts); None where the project is gone."""
    rows = await call(
        db,
        "select * from projects.scenes(project => %(project)s, job => %(job)s)",
        {"project": project_id, "job": job_id},
    )
    return (rows[0]["voice"], rows[0]["texts"]) if rows else None


def speaker(provider: VoiceProvider) -> Handler:
    """Return the handler of voice jobs: it has `provider` speak scene by scene.

    The sounds are kept in the transaction that completes the job: all of them, or none. A scene
    that cannot be spoken fails the job, which gives the whole price back.
    """

    async def speak(attempt: Attempt, /) -> Mapping[str, Any]:
        asked = await scenes(
            attempt.db, project_id=UUID(attempt.payload["project"]), job_id=attempt.id
        )
        if asked is None:
            raise AttemptFailed("project_gone", permanent=True)
        voice, texts = asked
        sounds: list[Sound] = []
        for text in texts:
            await attempt.progress("speaking", len(sounds), len(texts))
            sounds.append(await _spoken(provider, attempt, text, voice, len(sounds) + 1))
        await attempt.progress("keeping", len(texts), len(texts))
        return await _kept(attempt, sounds, provider.name)

    return speak


async def _spoken(
    provider: VoiceProvider, attempt: Attempt, text: str, voice: str, scene: int
) -> Sound:
    try:
        return await provider.speak(text, voice, deadline=max(1.0, attempt.remaining - 1.0))
    except OutOfService as problem:
        raise Paused(problem.code, problem.retry_after) from problem
    except ProviderError as problem:
        raise AttemptFailed(
            problem.code,
            f"Scene {scene}: {problem.detail}",
            permanent=problem.permanent,
            retry_after=problem.retry_after,
        ) from problem


async def _kept(attempt: Attempt, sounds: list[Sound], spoken_by: str) -> dict[str, Any]:
    result = {
        "scenes": len(sounds),
        "seconds": round(sum(sound.seconds for sound in sounds), 2),
        "provider": spoken_by,
    }
    async with attempt.db.transaction() as connection:
        for n, sound in enumerate(sounds, 1):
            await queue.keep_file(
                connection,
                job_id=attempt.id,
                token=attempt.lease.token,
                n=n,
                name=f"scene-{n:02}.wav",
                media_type="audio/wav",
                data=sound.data,
                seconds=sound.seconds,
            )
        await attempt.finish(connection, result)
    return result
