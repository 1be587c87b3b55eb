"""Each dependency has a reason, is locked with hashes, and is locked to what was declared."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rules.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"]
EXTRAS = [one for group in PROJECT["project"]["optional-dependencies"].values() for one in group]
GROUPS = PROJECT["dependency-groups"]
BUILD = GROUPS["build"]
DEV = [one for one in GROUPS["dev"] if isinstance(one, str)]

PIN = re.compile(r"^([a-zA-Z0-9._-]+)(?:\[[^]]*\])?==(\S+)(?: ;.*)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def locked(name: str) -> dict[str, str]:
    """Return the pinned versions of a lock; every line is a pin or a hash."""
    found: dict[str, str] = {}
    previous = ""
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if pin := PIN.match(line):
            assert not PIN.match(previous), f"{previous} has no hash"
            found[canonicalize_name(pin[1])] = pin[2]
        else:
            assert HASH.match(line), line
        previous = line
    return found


@pytest.mark.parametrize(
    ("lock", "declared"),
    [("run.txt", RUN + BUILD), ("dev.txt", RUN + EXTRAS + BUILD + DEV)],
)
def test_the_lock_holds_what_is_declared(lock, declared):
    pinned = locked(lock)
    for one in map(Requirement, declared):
        version = pinned.get(canonicalize_name(one.name))
        assert version is not None, f"{one.name} is not in {lock}: run `make lock`"
        assert one.specifier.contains(version), f"{one} but {version}: run `make lock`"


def test_developers_run_the_versions_that_users_run():
    dev = locked("dev.txt")
    assert {name: dev.get(name) for name in locked("run.txt")} == locked("run.txt")


def test_every_dependency_has_its_reason():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE))
    declared = {canonicalize_name(Requirement(x).name) for x in RUN + EXTRAS + BUILD + DEV}
    assert {canonicalize_name(name) for name in rows} == declared
    assert all(len(reason.split()) >= 4 for reason in rows.values())
