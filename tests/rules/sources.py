"""The files of this repository, and the functions in them, as the rules look at them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "holdfast"
_MADE_HERE = {
    ".git", ".venv", ".peers", "__pycache__", "build", "dist", "node_modules", ".hypothesis",
    ".import_linter_cache", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".schemathesis",
}  # fmt: skip
_TEXT = {".py", ".sql", ".md", ".toml", ".po", ".html", ".css", ".js", ".mjs", ".sh", ".yaml",
         ".yml", ".json", ".txt", ".ini", ".svg", ""}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """One function: where it begins, how many lines it has, and its text."""

    path: Path
    name: str
    line: int
    length: int
    text: str

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line} {self.name} ({self.length} lines)"


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nothing(wrong: Sequence[object]) -> None:
    """Fail with every finding on a line of its own, where there is one."""
    assert not wrong, "\n" + "\n".join(str(one) for one in wrong)


def files(*suffixes: str, under: Path = ROOT) -> list[Path]:
    """Return the files of the project with one of `suffixes` (all texts without any)."""
    wanted = set(suffixes) or _TEXT
    return sorted(
        path
        for path in under.rglob("*")
        if path.suffix in wanted
        and path.is_file()
        and not _MADE_HERE & set(path.relative_to(ROOT).parts)
    )


def python_functions(under: Path) -> Iterator[Function]:
    for path in files(".py", under=under):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                body = text.splitlines()[node.lineno - 1 : node.end_lineno]
                yield Function(path, node.name, node.lineno, len(body), "\n".join(body))


_CREATE = re.compile(r"^\s*create (?:or replace )?(?:function|procedure)\s+([\w.]+)", re.IGNORECASE)


def sql_functions(under: Path) -> Iterator[Function]:
    """Yield every CREATE FUNCTION; it ends with its closing dollar quote, or its RETURN's `;`."""
    for path in files(".sql", under=under):
        lines = path.read_text("utf-8").splitlines()
        for start, line in enumerate(lines):
            if created := _CREATE.match(line):
                length = _length("\n".join(lines[start:]))
                text = "\n".join(lines[start : start + length])
                yield Function(path, created[1], start + 1, length, text)


def _length(text: str) -> int:
    opened = re.search(r"\bas\s+(\$\w*\$)", text)
    returned = re.search(r"^return\s", text, re.MULTILINE)
    if returned and (opened is None or returned.start() < opened.start()):
        end = text.index(";", returned.start())
    else:
        assert opened is not None, text[:200]
        end = text.index(opened[1], opened.end())
    return text.count("\n", 0, end) + 1
