"""The OpenAPI document: FastAPI's, with every route's refusal codes and our own problem shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from holdfast import errors
from holdfast.errors import HoldfastError
from holdfast.web.actor import identify, verified
from holdfast.web.problems import MEDIA_TYPE, not_found
from holdfast.web.requests import required_key
from holdfast.web.responses import Problem
from holdfast.web.tickets import watcher

_METHODS = ("get", "put", "post", "delete", "patch")
_TOKEN = [kind for kind in errors.classes() if issubclass(kind, errors.Unauthenticated)]
# What any caller may meet, whatever the route says.
_ALWAYS: tuple[type[HoldfastError], ...] = (
    errors.BadRequest,
    errors.RateLimited,
    errors.Internal,
    errors.Unavailable,
    errors.Retryable,
)
_BODY: tuple[type[HoldfastError], ...] = (
    errors.MalformedJson,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.Invalid,
)


def build(app: FastAPI, routers: Iterable[APIRouter]) -> dict[str, Any]:
    """Return the document of `app`, built once; `routers` are those it includes."""
    if app.openapi_schema:
        return app.openapi_schema
    page = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    schemas = page.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    page["components"]["securitySchemes"] = _SCHEMES
    personal = set(_depending(routers, identify, verified, watcher))
    keyed = set(_depending(routers, required_key))
    for path, operations in page["paths"].items():
        for method in _METHODS:
            if operation := operations.get(method):
                where = (path, method)
                _complete(path, operation, personal=where in personal, keyed=where in keyed)
    app.openapi_schema = page
    return page


def _depending(
    routers: Iterable[APIRouter], *calls: Callable[..., Any]
) -> Iterator[tuple[str, str]]:
    """Find the routes that depend on one of these, as (path, method)."""

    def depends(dependant: Dependant) -> bool:
        return dependant.call in calls or any(map(depends, dependant.dependencies))

    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and depends(route.dependant):
            yield from ((route.path, method.lower()) for method in route.methods or ())


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "deviceId": {"type": "apiKey", "in": "header", "name": "X-Device-Id"},
    "deviceSecret": {"type": "apiKey", "in": "header", "name": "X-Device-Secret"},
    "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
}


def _complete(path: str, operation: dict[str, Any], *, personal: bool, keyed: bool) -> None:
    """Say who may ask, and list every refusal with its code."""
    parameters = operation.setdefault("parameters", [])
    if personal:
        operation["security"] = [{"bearer": []}, {"deviceId": [], "deviceSecret": []}]
        if any(parameter["name"] == "ticket" for parameter in parameters):
            operation["security"].append({"ticket": []})
    responses = operation["responses"]
    if "x-codes" not in responses.get("422", {}):
        responses.pop("422", None)  # FastAPI's own, of a shape that we never answer
    for parameter in operation["parameters"]:
        if parameter["name"].lower() == "idempotency-key":
            parameter["required"] = keyed
    for kind in _met(path, operation, personal, keyed):
        listed = responses.setdefault(str(kind.status), {})
        codes = listed.get("x-codes", [])
        if kind.code not in codes:
            listed["x-codes"] = [*codes, kind.code]  # several routes may share the list
    for status, response in responses.items():
        if "x-codes" in response:
            responses[status] = _refusal(response.pop("x-codes"))
    operation["responses"] = dict(sorted(responses.items()))


def _met(
    path: str, operation: dict[str, Any], personal: bool, keyed: bool
) -> Iterator[type[HoldfastError]]:
    yield from _ALWAYS
    if keyed:
        yield errors.IdempotencyKeyRequired
    if personal:
        yield from _TOKEN
        yield from (errors.DeviceIdInvalid, errors.DeviceSecretMalformed)
    if "requestBody" in operation:
        yield from _BODY
    elif any(p["in"] == "query" for p in operation["parameters"]):
        yield errors.Invalid
    for name in re.findall(r"{(\w+)}", path):
        yield not_found(name)
    names = {parameter["name"].lower() for parameter in operation["parameters"]}
    if "idempotency-key" in names:
        yield errors.IdempotencyKeyMalformed
        yield errors.IdempotencyKeyReused
        yield errors.IdempotencyInFlight
    if "if-match" in names:
        yield errors.VersionMismatch


def _refusal(codes: list[str]) -> dict[str, Any]:
    """Describe one status: its codes, each with its sentence."""
    kinds = [kind for code in codes if (kind := errors.by_code(code))]
    return {
        "description": "; ".join(f"`{kind.code}`: {kind().title()}" for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Problem"},
                        {"properties": {"code": {"enum": sorted(codes)}}},
                    ]
                }
            }
        },
    }
