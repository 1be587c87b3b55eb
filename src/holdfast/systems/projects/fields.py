"""What a person types into a stage, and what of it becomes data.

The stages of "video" have fields of their own; a stage of any other template is edited as the JSON
it is. A field is a text; what a stage holds besides its fields stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.errors import Invalid
from holdfast.systems.projects.script import timed
from holdfast.systems.projects.steps import Step

_OWN = {"idea": ("idea", "audience"), "research": ("notes",)}
_OTHER = "data"


@dataclass(frozen=True, slots=True)
class Field:
    """One text to type: its name, what it holds now, and how many lines it is shown with."""

    name: str
    text: str
    lines: int


def fields_of(step: Step) -> list[Field]:
    """Return the fields of a stage as they are now."""
    if step.name in _OWN:
        return [
            Field(name, _text(step.data.get(name)), 8 if n == 0 else 2)
            for n, name in enumerate(_OWN[step.name])
        ]
    if step.name == "script":
        return [Field("script", "\n\n".join(scenes_of(step.data)), 14)]
    if step.name == "voice":
        return [Field("voice", _text(step.data.get("voice")), 1)]
    return [Field(_OTHER, json.dumps(step.data, ensure_ascii=False, indent=2), 14)]


def patch_of(step: Step, typed: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Return what was typed as data, and whether it is a merge patch. Raises Invalid."""
    if step.name in _OWN:
        return {name: _typed(typed, name) for name in _OWN[step.name] if name in typed}, True
    if step.name == "script":
        return {"finalScript": _script(step.data, _typed(typed, "script"))}, True
    if step.name == "voice":
        return {"voice": _typed(typed, "voice") or None}, True
    try:
        read = json.loads(typed.get(_OTHER, ""))
    except (ValueError, RecursionError):
        raise Invalid(errors=[{"pointer": f"/{_OTHER}", "code": "malformed"}]) from None
    return read, False


def scenes_of(data: Mapping[str, Any]) -> list[str]:
    """Return the texts of a script's scenes, "" for one without."""
    script = data.get("finalScript")
    scenes = script.get("scenes") if isinstance(script, dict) else None
    return [
        _text(scene.get("text") if isinstance(scene, dict) else scene)
        for scene in (scenes if isinstance(scenes, list) else [])
    ]


def _script(data: Mapping[str, Any], typed: str) -> dict[str, Any]:
    """Make the script that was typed: scenes between blank lines, each with what it had besides."""
    texts = [text.strip() for text in re.split(r"\n\s*\n", typed) if text.strip()]
    script = data.get("finalScript")
    old = script.get("scenes") if isinstance(script, dict) else None
    old = old if isinstance(old, list) else []
    scenes = []
    for n, text in enumerate(texts):
        before = old[n] if n < len(old) and isinstance(old[n], dict) else {"number": n + 1}
        scenes.append({**before, "text": text})
    return timed(scenes)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _typed(typed: Mapping[str, str], name: str) -> str:
    return typed.get(name, "").replace("\r\n", "\n")
