"""The names a program may rely on: few, frozen, and cheap to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import holdfast

FROZEN = {
    "Database", "HoldfastError", "Refusal", "Retryable", "Settings", "Unavailable",
    "__version__", "accounts", "audit", "courses", "enqueue", "errors", "job", "ledger",
    "orders", "outbox", "projects", "queue", "stories", "transitions",
}  # fmt: skip


def test_the_public_names_are_these_and_at_most_20():
    assert set(holdfast.__all__) == FROZEN
    assert len(FROZEN) <= 20
    assert dir(holdfast) == sorted(FROZEN)


def test_every_public_name_is_there():
    for name in FROZEN:
        assert getattr(holdfast, name) is not None
    assert not hasattr(holdfast, "no_such_name")


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(holdfast.__file__).read_text())
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen | {"__version__"} == FROZEN


def test_importing_holdfast_loads_no_driver():
    script = "import sys, holdfast; sys.exit('psycopg' in sys.modules or 'babel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
