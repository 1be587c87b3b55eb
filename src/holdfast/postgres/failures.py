"""What an error of psycopg is to our callers."""

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from holdfast.errors import HoldfastError, Internal, Retryable, for_sqlstate

STALE_PLAN = "cached plan must not change result type"
_VANISHED = "cache lookup failed"
_NOT_LENT = (PoolTimeout, PoolClosed, TooManyRequests)


def error_for(problem: psycopg.Error) -> HoldfastError:
    """Return Unavailable, Retryable, the BrokenPromise of an SQLSTATE KH…, or Internal."""
    message = problem.diag.message_primary or str(problem)
    if problem.sqlstate is None and not isinstance(problem, psycopg.OperationalError):
        return Internal(reason=message)  # psycopg refused before anything was sent
    if _VANISHED in message or STALE_PLAN in message:
        return Retryable()  # the verbs are being installed anew under our feet
    found = for_sqlstate(problem.sqlstate, message)
    return found or Internal(reason=message, sqlstate=problem.sqlstate)


def connection_lost(problem: BaseException | None) -> bool:
    """Say whether the connection broke, so that nobody knows whether the statement happened."""
    if not isinstance(problem, psycopg.OperationalError) or isinstance(problem, _NOT_LENT):
        return False
    return problem.sqlstate is None or problem.sqlstate.startswith(("08", "57P"))
