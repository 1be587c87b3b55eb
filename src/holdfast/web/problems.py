"""Every error as `application/problem+json` (RFC 9457), in the reader's language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope

from holdfast import errors, messages
from holdfast.errors import BrokenPromise, HoldfastError, Internal, Invalid
from holdfast.web.body import escaped

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger("holdfast.web")
_OF_STATUS: dict[int, type[HoldfastError]] = {
    400: errors.BadRequest,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    416: errors.RangeNotSatisfiable,
}
# pydantic's kinds of errors: our field code, and which of their facts our sentence needs
_FIELD: dict[str, tuple[str, dict[str, str]]] = {
    "missing": ("required", {}),
    "extra_forbidden": ("unknown", {}),
    "string_too_short": ("too_short", {"least": "min_length"}),
    "string_too_long": ("too_long", {"most": "max_length"}),
    "too_short": ("too_few", {"least": "min_length"}),
    "too_long": ("too_many", {"most": "max_length"}),
    "greater_than_equal": ("too_small", {"least": "ge"}),
    "greater_than": ("too_small", {"least": "gt"}),
    "less_than_equal": ("too_big", {"most": "le"}),
    "less_than": ("too_big", {"most": "lt"}),
    "literal_error": ("not_a_choice", {"allowed": "expected"}),
    "enum": ("not_a_choice", {"allowed": "expected"}),
    "uuid_parsing": ("not_a_uuid", {}),
    "uuid_type": ("not_a_uuid", {}),
}
_TYPES = {
    "int": "integer",
    "bool": "boolean",
    "float": "number",
    "string": "string",
    "list": "array",
    "dict": "object",
    "model": "object",
}


def locale_of(scope: Scope) -> str:
    """Return the language a request asks for; of its account, once known, where it asks none."""
    state = scope.get("state") or {}
    chosen = state.get("asked_locale")
    if chosen is None:
        header = ", ".join(
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"accept-language"
        )
        chosen = state["asked_locale"] = messages.negotiate(header, default="")
    return chosen or state.get("account_locale") or messages.DEFAULT


def request_id_of(scope: Scope) -> str:
    """Return the id that the answer, the log and the audit give to this request."""
    return str((scope.get("state") or {}).get("request_id", ""))


def document(problem: HoldfastError, *, locale: str, request_id: str) -> dict[str, Any]:
    """Return a problem document: the standing members, then what the code adds."""
    made: dict[str, Any] = {
        "type": f"urn:holdfast:problem:{problem.code}",
        "title": problem.title(locale),
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail(locale),
        "requestId": request_id,
    }
    if following := problem.next(locale):
        made["next"] = following
    for name, value in problem.exposed().items():  # a job's status must not pass for HTTP's
        made[f"current{name.capitalize()}" if name in made else name] = value
    return made


def respond(scope: Scope, problem: HoldfastError) -> Response:
    """Build the response for a problem; a defect goes to the log, with the request id."""
    locale, request_id = locale_of(scope), request_id_of(scope)
    if problem.status >= 500:
        _record(scope, problem, request_id)
    if isinstance(problem, Invalid) and "errors" in problem.facts:
        problem = Invalid.of(problem.facts["errors"], locale)
    headers = {"Content-Language": locale, "Vary": "Accept-Language"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = f'Bearer error="{problem.code}"'
    if isinstance(problem, errors.RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{problem.facts.get('bytes', '*')}"
    content = document(problem, locale=locale, request_id=request_id)
    return Response(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def _record(scope: Scope, problem: HoldfastError, request_id: str) -> None:
    """Write what a person must look at: defects at ERROR, outages at WARNING."""
    cause = problem.__cause__
    facts = {
        "request_id": request_id,
        "method": scope.get("method"),
        "path": scope.get("path"),
        "code": problem.code,
        "reason": problem.facts.get("reason") or (str(cause) if cause else None),
    }
    defect = isinstance(problem, Internal | BrokenPromise)
    (_log.error if defect else _log.warning)("request failed", **facts)


def defect(scope: Scope, cause: Exception) -> Response:
    """Build the 500 for an exception that nobody expected, and log where it came from."""
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
    told = Internal(reason=f"{type(cause).__name__}: {cause} ({where})")
    _log.debug("traceback", request_id=request_id_of(scope), exc_info=cause)
    return respond(scope, told)


def invalid(problems: Iterable[Mapping[str, Any]]) -> HoldfastError:
    """Turn what FastAPI found wrong into one problem; a malformed id in a path is a 404."""
    found = list(problems)
    for problem in found:
        if problem["loc"][0] == "path":
            return not_found(str(problem["loc"][-1]))()
    return Invalid(errors=[_field(problem) for problem in found])


def not_found(parameter: str) -> type[HoldfastError]:
    """Return the 404 of a path's parameter: of `order_id` it is `order_not_found`."""
    return errors.by_code(f"{parameter.removesuffix('_id')}_not_found") or errors.NotFound


def _field(problem: Mapping[str, Any]) -> dict[str, Any]:
    kind, facts = problem["type"], problem.get("ctx") or {}
    where = {"pointer": _pointer(problem["loc"])}
    if kind == "holdfast":
        return {**where, **facts}
    if kind in _FIELD:
        code, wanted = _FIELD[kind]
        return {**where, "code": code, **{ours: facts[theirs] for ours, theirs in wanted.items()}}
    subject = re.match(r"[a-z]+", kind)
    if kind.endswith(("_type", "_parsing", "_from_float")) and subject:
        expected = _TYPES.get(subject[0], subject[0])
        return {**where, "code": "wrong_type", "expected": expected}
    return {**where, "code": "malformed"}


def _pointer(loc: Sequence[object]) -> str:
    """Point into the body; what stands elsewhere is named by its place (`/query/limit`)."""
    place = list(loc[1:]) if loc[0] == "body" else list(loc)
    return "".join(f"/{escaped(part)}" for part in place)


async def _on_refusal(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HoldfastError)
    return respond(request.scope, problem)


async def _on_invalid(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    return respond(request.scope, invalid(problem.errors()))


async def _on_framework(request: HTTPConnection, problem: Exception) -> Response:
    """Answer what Starlette or FastAPI refuses by itself, keeping headers such as Allow."""
    assert isinstance(problem, HTTPException)
    kind = _OF_STATUS.get(problem.status_code)
    if kind is None:
        kind = errors.BadRequest if problem.status_code < 500 else Internal
    facts: dict[str, Any] = {}
    headers = {name.lower(): value for name, value in (problem.headers or {}).items()}
    if kind is errors.MethodNotAllowed:
        known: str = request.app.state.methods(request.scope["path"])
        facts["allowed"] = headers["allow"] = known or headers.get("allow", "")
    if kind is errors.PayloadTooLarge:
        facts["most"] = request.app.state.settings.body_bytes_max
    response = respond(request.scope, kind(**facts))
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


def install(app: FastAPI) -> None:
    """Have every error of `app` told as a problem."""
    app.add_exception_handler(HoldfastError, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_framework)
