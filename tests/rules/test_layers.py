"""Data flows one way, and only one place talks to the database."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from rules.sources import PACKAGE, ROOT, files, nothing, shown

LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def stems(folder: str) -> set[str]:
    """Return the concepts of a layer: each a .sql, a .py, or a folder of the same stem."""
    found = (path for path in (PACKAGE / folder).glob("*") if not path.name.startswith("_"))
    return {path.stem for path in found if path.suffix in {".sql", ".py", ""}}


def test_layers_hold():
    done = subprocess.run(
        [sys.executable, "-c", LINTER], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_systems_do_not_import_or_name_each_other():
    systems = stems("systems") - {"providers"}
    assert {"accounts", "stories"} <= systems
    wrong = []
    for path in files(".py", ".sql", under=PACKAGE / "systems"):
        own = path.relative_to(PACKAGE / "systems").parts[0].split(".")[0]
        text = re.sub(r"--.*", "", path.read_text("utf-8"))
        for other in systems - {own}:
            named = rf"\b{other}\.\w+\s*\(" if path.suffix == ".sql" else rf"systems\.{other}\b"
            if re.search(named, text):
                wrong.append(f"{shown(path)} names {other}")
    nothing(wrong)


def test_the_kernel_knows_no_system():
    systems = "|".join(sorted(stems("systems")))
    nothing(
        [
            f"{shown(path)}: {found[0]}"
            for path in files(".py", ".sql", under=PACKAGE / "kernel")
            for found in [
                re.search(rf"\b({systems})\.\w+\s*\(", re.sub(r"--.*", "", path.read_text("utf-8")))
            ]
            if found
        ]
    )


def test_only_postgres_executes():
    """`bench` makes databases and measures plain SQL beside our own: that is its trade."""
    nothing(
        [
            f"{shown(path)}:{node.lineno}"
            for path in files(".py", under=PACKAGE)
            if path.relative_to(PACKAGE).parts[0] not in {"bench", "postgres"}
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr in {"execute", "executemany"}
        ]
    )  # fmt: skip


def is_door(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py") in {"cli", "web", "worker"}


def test_doors_hold_no_sql():
    statement = re.compile(r"\b(select|insert into|update|delete from|call)\s+\w+", re.IGNORECASE)
    own = re.compile(r"\bfrom\s+\w+\.\w+|\w+\.\w+\s*\(|\binto\b|\bset\b", re.IGNORECASE)
    wrong = []
    for path in files(".py", under=PACKAGE):
        if not is_door(path):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found = statement.match(node.value.lstrip())
                if found and own.search(node.value):
                    wrong.append(f"{shown(path)}:{node.lineno}")
    nothing(wrong)
