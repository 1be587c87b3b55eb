"""Which kinds a worker makes: those of the systems, and those that the user's modules declare."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from holdfast.config import Settings
from holdfast.kernel import queue
from holdfast.kernel.queue import Attempt, Handler
from holdfast.systems import projects, stories
from holdfast.systems.providers import story_provider
from holdfast.systems.providers.voice import EspeakVoice


@dataclass(frozen=True, slots=True)
class Registered:
    """A kind and what makes its jobs."""

    kind: queue.Kind
    handler: Handler


async def of_systems(settings: Settings, ending: AsyncExitStack) -> dict[str, Registered]:
    """Return the kinds of the systems, with what they need opened; `ending` closes it."""
    provider = story_provider(
        settings.story_provider,
        dev=not settings.production,
        api_key=settings.anthropic_api_key,
        base_url=settings.anthropic_base_url,
        model=settings.story_model,
        silence=settings.provider_silence_seconds,
    )
    ending.push_async_callback(provider.aclose)
    speaker = projects.speaker(EspeakVoice(dev=not settings.production))
    return {
        stories.KIND: Registered(_kind(stories.KIND, settings), stories.writer(provider)),
        projects.KIND: Registered(_kind(projects.KIND, settings), speaker),
    }


def _kind(name: str, settings: Settings) -> queue.Kind:
    return queue.Kind(
        name,
        attempts=settings.job_attempts,
        backoff=settings.job_backoff_seconds,
        lease=settings.job_lease_seconds,
        deadline=settings.job_deadline_seconds,
        queue_deadline=settings.job_queue_deadline_seconds,
    )


def of_modules(modules: tuple[str, ...]) -> dict[str, Registered]:
    """Import the user's modules and return the kinds that were declared. Raises ImportError."""
    for module in modules:
        import_module(module)
    return {
        name: Registered(found.kind, _called(found.function))
        for name, found in queue.declared().items()
    }


def _called(function: Callable[..., Any]) -> Handler:
    call = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(call):
        return function
    return _Threaded(function)


class _Threaded:
    """A plain function as a handler: in a thread of its own, so that it may block or compute.

    A thread cannot be ended from outside. One whose lease is lost learns it from `attempt.check()`,
    `progress()` or `text()`; whatever it returns later is not looked at, and as a daemon it holds
    no process up.
    """

    def __init__(self, function: Callable[[Attempt], Mapping[str, Any] | None]) -> None:
        self._function = function

    async def __call__(self, attempt: Attempt, /) -> Mapping[str, Any] | None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Mapping[str, Any] | None] = loop.create_future()

        def settle(result: Mapping[str, Any] | None, problem: BaseException | None) -> None:
            if answer.done():
                return
            if problem is None:
                answer.set_result(result)
            else:
                answer.set_exception(problem)

        def run() -> None:
            result: Mapping[str, Any] | None = None
            problem: BaseException | None = None
            try:
                result = self._function(attempt)
            except StopIteration as stop:  # a future cannot hold it
                problem = RuntimeError(f"the handler raised {stop!r}")
            except BaseException as raised:  # noqa: BLE001 - it belongs to whoever waits
                problem = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            with contextlib.suppress(RuntimeError):  # the worker has ended meanwhile
                loop.call_soon_threadsafe(settle, result, problem)

        threading.Thread(target=run, name=f"job {attempt.id}", daemon=True).start()
        return await answer
