"""What a stage's data may be: storable at any time, and true to its schema to be complete."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jsonschema
from jsonschema.exceptions import ValidationError
from referencing import Registry

from holdfast.errors import Invalid

DEPTH = 32  # containers within containers; the data itself is the first
_LEAST, _MOST = -(2**63), 2**63 - 1
_TOLD = 50  # problems named at most

Problem: TypeAlias = dict[str, Any]

# What a keyword of JSON Schema says in our field codes, and the fact that its sentence needs.
_CODES: dict[str, tuple[str, str | None]] = {
    "type": ("wrong_type", "expected"),
    "minLength": ("too_short", "least"),
    "maxLength": ("too_long", "most"),
    "minItems": ("too_few", "least"),
    "minProperties": ("too_few", "least"),
    "maxItems": ("too_many", "most"),
    "maxProperties": ("too_many", "most"),
    "minimum": ("too_small", "least"),
    "exclusiveMinimum": ("too_small", "least"),
    "maximum": ("too_big", "most"),
    "exclusiveMaximum": ("too_big", "most"),
    "enum": ("not_a_choice", "allowed"),
    "uniqueItems": ("duplicate", None),
}


def require_storable(data: object, pointer: str = "/data") -> None:
    """Raise Invalid, with pointers, where `data` is no JSON object that PostgreSQL can hold.

    NUL characters, lone surrogates, NaN, integers past 64 bits, more than 32 levels.
    """
    if not isinstance(data, Mapping):
        raise Invalid(errors=[{"pointer": pointer, "code": "wrong_type", "expected": "object"}])
    problems = []
    for problem in _unfit(data, pointer, 1):
        problems.append(problem)
        if len(problems) == _TOLD:
            break
    if problems:
        raise Invalid(errors=problems)


def _unfit(value: Any, pointer: str, depth: int) -> Iterator[Problem]:
    match value:
        case None | bool():
            return
        case str():
            yield from _unfit_text(value, pointer)
        case int():
            if not _LEAST <= value <= _MOST:
                over = value > 0
                limit = {"most": _MOST} if over else {"least": _LEAST}
                yield {"pointer": pointer, "code": "too_big" if over else "too_small", **limit}
        case float():
            if not math.isfinite(value):
                yield {"pointer": pointer, "code": "malformed"}
        case dict() | list() if depth > DEPTH:
            yield {"pointer": pointer, "code": "too_deep", "most": DEPTH}
        case dict():
            for name, inner in value.items():
                below = f"{pointer}/{_escaped(name)}"
                yield from _unfit_text(name, below)
                yield from _unfit(inner, below, depth + 1)
        case list():
            for index, inner in enumerate(value):
                yield from _unfit(inner, f"{pointer}/{index}", depth + 1)
        case _:
            yield {"pointer": pointer, "code": "malformed"}


def _unfit_text(text: object, pointer: str) -> Iterator[Problem]:
    pointer = pointer.replace("\0", "\\u0000").encode("utf-8", "replace").decode()
    if not isinstance(text, str) or any("\ud800" <= character <= "\udfff" for character in text):
        yield {"pointer": pointer, "code": "malformed"}
    elif "\0" in text:
        yield {"pointer": pointer, "code": "nul_character"}


def require_complete(data: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise Invalid, with pointers below `/data`, where `data` does not satisfy its stage.

    Nothing is fetched: a `$ref` to another place is a broken template, and raises.
    """
    validator = jsonschema.Draft202012Validator(schema, registry=Registry())
    problems: list[Problem] = []
    for found in validator.iter_errors(data):
        problems += _told(found, "/data")
        if len(problems) >= _TOLD:
            break
    if problems:
        problems.sort(key=lambda problem: str(problem["pointer"]))
        raise Invalid(errors=problems[:_TOLD])


def _told(found: ValidationError, start: str) -> Iterator[Problem]:
    """Say one finding in our codes. A missing field is pointed at, not its owner."""
    pointer = start + "".join(f"/{_escaped(part)}" for part in found.absolute_path)
    keyword: str = str(found.validator)
    value: Any = found.validator_value
    instance: Any = found.instance
    if keyword == "required":
        missing = [name for name in value if name not in instance]
        yield from ({"pointer": f"{pointer}/{_escaped(n)}", "code": "required"} for n in missing)
    elif keyword in ("anyOf", "oneOf") and found.context:
        yield from _closest(found, start)
    elif keyword == "additionalProperties":
        known = found.schema.get("properties", {}) if isinstance(found.schema, Mapping) else {}
        extra = [name for name in instance if name not in known]
        yield from ({"pointer": f"{pointer}/{_escaped(n)}", "code": "unknown"} for n in extra)
    else:
        code, fact = _CODES.get(keyword, ("malformed", None))
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        yield {"pointer": pointer, "code": code} | ({fact: value} if fact else {})


def _closest(found: ValidationError, start: str) -> Iterator[Problem]:
    """Of alternatives none of which fits, tell about the one whose type does."""
    branches: dict[object, list[ValidationError]] = {}
    for inner in found.context or ():
        branches.setdefault(inner.schema_path[0], []).append(inner)
    meant = [
        errors
        for errors in branches.values()
        if not any(e.validator == "type" and e.absolute_path == found.absolute_path for e in errors)
    ]
    for inner in meant[0] if meant else next(iter(branches.values())):
        yield from _told(inner, start)


def _escaped(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
