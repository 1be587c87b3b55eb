"""Projects: a wizard of stages. What a stage saved, a later stage loads, and can have spoken.

A verb's `family` are the caller's account and its aliases: of a project that is neither theirs nor
shared with them every verb says NotFound.
"""

from holdfast.systems.projects.difference import Change
from holdfast.systems.projects.fields import Field, fields_of, patch_of, scenes_of
from holdfast.systems.projects.history import Revision, accept, keep, restore, revisions
from holdfast.systems.projects.membership import (
    Created,
    Project,
    add_member,
    create,
    get,
    list_of,
    remove_member,
)
from holdfast.systems.projects.script import adopt, script_from_text
from holdfast.systems.projects.steps import (
    UNSET,
    Autosave,
    Saved,
    Step,
    Unset,
    complete,
    save,
    skip,
    step,
    steps,
)
from holdfast.systems.projects.voice import (
    KIND,
    Voicing,
    scenes,
    speaker,
    voice,
    voicings,
)

__all__ = [
    "KIND",
    "UNSET",
    "Autosave",
    "Change",
    "Created",
    "Field",
    "Project",
    "Revision",
    "Saved",
    "Step",
    "Unset",
    "Voicing",
    "accept",
    "add_member",
    "adopt",
    "complete",
    "create",
    "fields_of",
    "get",
    "keep",
    "list_of",
    "patch_of",
    "remove_member",
    "restore",
    "revisions",
    "save",
    "scenes",
    "scenes_of",
    "script_from_text",
    "skip",
    "speaker",
    "step",
    "steps",
    "voice",
    "voicings",
]
