"""Pages made of templates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("holdfast.web"), autoescape=True, undefined=StrictUndefined
    )


def documentation(page: dict[str, Any]) -> str:
    """Show an OpenAPI document: every route, what it takes, what it answers and refuses."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for operation in _operations(page):
        groups.setdefault(operation["tag"], []).append(operation)
    return _templates().get_template("docs.html").render(info=page["info"], groups=groups)


def _operations(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            taken: dict[str, Any] = operation.get("requestBody", {}).get("content", {})
            yield {
                "tag": (operation.get("tags") or ["other"])[0],
                "method": method.upper(),
                "path": path,
                "summary": operation.get("description") or operation.get("summary", ""),
                "personal": "security" in operation,
                "parameters": [{**p, "type": _type(p["schema"])} for p in operation["parameters"]],
                "takes": list(_fields(page, _schema(taken))),
                "responses": operation["responses"],
            }


def _schema(content: dict[str, Any]) -> dict[str, Any]:
    for described in content.values():
        found: dict[str, Any] = described.get("schema", {})
        return found
    return {}


def _fields(page: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name = schema.get("$ref", "").rpartition("/")[2]
    shape = page["components"]["schemas"].get(name, schema)
    for field, described in shape.get("properties", {}).items():
        yield {
            "name": field,
            "required": field in shape.get("required", ()),
            "type": _type(described),
        }


def _type(schema: dict[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return " or ".join(str(kind.get("format") or kind.get("type", "any")) for kind in kinds)
