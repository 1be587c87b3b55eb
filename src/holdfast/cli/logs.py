"""The log: structlog on stderr, text or JSON; what libraries say passes the same way."""

import logging
import sys
from typing import Any

import structlog

from holdfast.config import Settings

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(settings: Settings, *, at_least: str | None = None) -> None:
    """Set the log up, once, at the start of a command. `at_least` raises the level."""
    level = max(_LEVELS[settings.log_level], _LEVELS.get(at_least or "", 0))
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.dict_tracebacks if settings.log_format == "json" else _nothing,
    ]
    if settings.log_format == "json":
        last: Any = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=0,
            sort_keys=False,
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("holdfast").setLevel(level)
    # It tells of every try to connect again; that the database is away is said once, by the worker.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


def _nothing(_: object, __: str, event: Any) -> Any:
    return event
