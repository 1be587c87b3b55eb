"""Courses as people write them, in YAML or JSON: checked, and made complete for the database."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from holdfast.errors import Invalid
from holdfast.messages import DEFAULT

# what a broken rule of the schema is called in the catalogues
_CODES = {
    "required": "required",
    "additionalProperties": "unknown",
    "type": "wrong_type",
    "enum": "not_a_choice",
    "minItems": "too_few",
    "maxItems": "too_many",
    "minLength": "too_short",
    "maxLength": "too_long",
    "uniqueItems": "duplicate",
}


def read(path: Path) -> dict[str, Any]:
    """Read a course file; returns the complete document. Raises Invalid, with pointers, OSError."""
    return parse(path.read_text("utf-8"))


def parse(text: str) -> dict[str, Any]:
    """Read a course from YAML (JSON is YAML); returns the complete document. Raises Invalid."""
    try:
        written = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that reads strictly
    except yaml.YAMLError as problem:
        raise _invalid([("", "malformed")]) from problem
    problems = [
        (_pointer(found), _CODES.get(str(found.validator), "malformed"))
        for found in sorted(_schema().iter_errors(written), key=lambda e: [*map(str, e.path)])
    ]
    if problems:
        raise _invalid(problems)
    return _complete(written)


def faulty(faults: Sequence[Mapping[str, str]]) -> Invalid:
    """Build the refusal for what the database found wrong, `{pointer, code}` each."""
    return _invalid([(fault["pointer"], fault["code"]) for fault in faults])


class _Loader(yaml.SafeLoader):
    """Takes `18:00` as the text it is (YAML says 1080), and refuses a name that is given twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the class above declares it
        first: [found for found in resolvers if not found[0].endswith((":int", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name) for name, _ in node.value]
        if len(set(map(str, names))) < len(names):
            raise yaml.constructor.ConstructorError(None, None, "a name twice", node.start_mark)
        return super().construct_mapping(node, deep)


@cache
def _schema() -> jsonschema.Draft202012Validator:
    source = resources.files(__package__) / "document.schema.json"
    return jsonschema.Draft202012Validator(json.loads(source.read_text("utf-8")))


def _pointer(problem: jsonschema.ValidationError) -> str:
    return "".join(f"/{part}".replace("~", "~0") for part in problem.absolute_path)


def _invalid(problems: Sequence[tuple[str, str]]) -> Invalid:
    return Invalid.of([{"pointer": pointer, "code": code} for pointer, code in problems])


def _complete(written: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what may be left out, so that equal courses are equal documents."""
    return {
        "slug": written["slug"],
        "flow": written.get("flow", "linear"),
        "title": _texts(written["title"]),
        "about": _texts(written.get("about", {})),
        "remindAt": written.get("remindAt", "18:00"),
        "days": [
            {
                "key": day.get("key", f"day-{number}"),
                "title": _texts(day.get("title", {})),
                "steps": [_step(step) for step in day["steps"]],
            }
            for number, day in enumerate(written["days"], 1)
        ],
    }


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    needs = step.get("needs", [])
    if isinstance(needs, list):
        needs = {"all": needs}
    return {
        "key": step["key"],
        "title": _texts(step["title"]),
        "body": _texts(step.get("body", {})),
        "required": step.get("required", True),
        "needs": needs.get("all") or needs.get("any") or [],
        "needAny": "any" in needs,
    }


def _texts(text: str | Mapping[str, str]) -> dict[str, str]:
    return {DEFAULT: text} if isinstance(text, str) else dict(text)
