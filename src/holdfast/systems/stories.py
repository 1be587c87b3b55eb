"""Stories: a person pays crystals for a generated story, and gets it or exactly one refund."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from holdfast.kernel import queue
from holdfast.kernel.queue.attempts import Attempt, AttemptFailed, Handler
from holdfast.kernel.queue.attempts import OutOfService as Paused
from holdfast.kernel.queue.jobs import Submitted, resubmitted, submitted
from holdfast.postgres.call import call_one
from holdfast.postgres.combine import BatchVerb
from holdfast.postgres.combine import submit as combined
from holdfast.postgres.pool import Handle
from holdfast.systems.providers import (
    OutOfService,
    ProviderError,
    StoryProvider,
    StoryRequest,
    count_words,
)

KIND = "story"

GENERATE = BatchVerb(
    name="stories.generate",
    sql="""select * from stories.generate(accounts => %(accounts)b::uuid[],
        prompts => %(prompts)b::text[], languages => %(languages)b::text[],
        words => %(words)b::int[], keys => %(keys)b::text[],
        request_ids => %(request_ids)b::text[], wait => %(wait)s)""",
    columns=("accounts", "prompts", "languages", "words", "keys", "request_ids"),
    by="accounts",
)


async def generate(
    db: Handle,
    *,
    account_id: UUID,
    prompt: str,
    key: str,
    language: str = "en",
    words: int = 500,
    request_id: str | None = None,
) -> Submitted:
    """Charge for a story and queue it, in one round trip, once per key.

    Raises InsufficientTokens (needed, available; the key stays free), IdempotencyKeyReused,
    NotFound (no such account), Retryable.
    """
    row = await combined(
        db,
        GENERATE,
        {
            "accounts": account_id,
            "prompts": prompt,
            "languages": language,
            "words": words,
            "keys": key,
            "request_ids": request_id,
        },
    )
    return submitted(row)


async def retry(
    db: Handle,
    *,
    job_id: UUID,
    owners: Sequence[UUID],
    account_id: UUID,
    key: str,
    request_id: str | None = None,
) -> Submitted:
    """Make a new job out of one that failed or was cancelled, charged anew, once per key.

    Raises NotFound, JobNotFailed (status), InsufficientTokens, IdempotencyKeyReused.
    """
    row = await call_one(
        db,
        """select * from stories.retry(job => %(job)s, owners => %(owners)b::uuid[],
            account => %(account)s, key => %(key)s, request_id => %(request)s)""",
        {
            "job": job_id,
            "owners": list(owners),
            "account": account_id,
            "key": key,
            "request": request_id,
        },
    )
    return resubmitted(row)


def kind(
    *, attempts: int, backoff: float, lease: float, deadline: float, queue_deadline: float = 86_400
) -> queue.Kind:
    """Return the settings of story jobs, in seconds."""
    return queue.Kind(KIND, attempts, backoff, lease, deadline, queue_deadline)


def writer(provider: StoryProvider) -> Handler:
    """Return the handler of story jobs: it has `provider` write, and tells the words as they come.

    A partial story is delivered and says so; anything less is a failed attempt, never half a text.
    """

    async def write(attempt: Attempt, /) -> Mapping[str, Any]:
        asked = attempt.payload
        request = StoryRequest(
            prompt=asked["prompt"],
            language=asked["language"],
            words=asked["words"],
            attempt=attempt.lease.attempt,
        )
        attempt.silent = lambda: request.signs.muted
        words = 0

        async def on_text(piece: str) -> None:
            nonlocal words
            words += count_words(piece)
            await attempt.text(piece)
            await attempt.progress("writing", min(words, request.words), request.words)

        try:
            await attempt.progress("writing", 0, request.words)
            story = await provider.write(
                request, deadline=max(1.0, attempt.remaining - 1.0), on_text=on_text
            )
        except OutOfService as problem:
            raise Paused(problem.code, problem.retry_after) from problem
        except ProviderError as problem:
            raise AttemptFailed(
                problem.code,
                problem.detail,
                permanent=problem.permanent,
                retry_after=problem.retry_after,
            ) from problem
        return {
            "text": story.text,
            "words": story.words,
            "model": story.model,
            "partial": story.partial,
            "usage": {"input": story.usage.input_tokens, "output": story.usage.output_tokens},
        }

    return write
