"""SQL stands written out: never built from text, always with its reason."""

from __future__ import annotations

import ast
import re

from rules.sources import PACKAGE, ROOT, files, nothing, shown, sql_functions

STATEMENT = re.compile(
    r"^\s*(?:select\s.*\bfrom\b|select\s+\w+\.\w+\s*\(|insert\s+into\s|update\s+\S+\s+set\s"
    r"|delete\s+from\s|(?:create|alter|drop|grant|revoke|truncate|comment\s+on)\s+\w+)",
    re.IGNORECASE | re.DOTALL,
)


def literal(node: ast.AST) -> str | None:
    """Return the fixed text of an expression that builds text, None for any other."""
    match node:
        case ast.JoinedStr():
            parts = [v.value for v in node.values if isinstance(v, ast.Constant)]
            mixed = len(parts) < len(node.values)
            return "".join(str(part) for part in parts) if mixed else None
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod() | ast.Add()):
            return text
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return text
    return None


def test_no_sql_is_built_by_formatting():
    wrong = []
    for folder in ("src", "tests", "bench", "examples"):
        for path in files(".py", under=ROOT / folder):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                text = literal(node)
                if text and STATEMENT.match(text):
                    wrong.append(f"{shown(path)}: {text[:60]!r}")
    nothing(wrong)


def test_every_verb_says_what_it_is_for():
    """The line above `create function` is a comment; `_internal` ones may go without."""
    wrong = []
    for function in (*sql_functions(PACKAGE / "kernel"), *sql_functions(PACKAGE / "systems")):
        above = function.path.read_text("utf-8").splitlines()[: function.line - 1]
        told = above and above[-1].lstrip().startswith("--")
        if not told and not function.name.partition(".")[2].startswith("_"):
            wrong.append(str(function))
    nothing(wrong)


def test_no_filter_matches_everything_by_null():
    """`(given is null or column = given)` has one plan for two questions."""
    guess = re.compile(r"\(\s*\w+\s+is\s+null\s+or\s+[\w.]+\s*=\s*\w+\s*\)", re.IGNORECASE)
    nothing(
        [
            f"{shown(path)}: {found[0]}"
            for path in files(".sql", under=PACKAGE)
            for found in guess.finditer(path.read_text("utf-8"))
        ]
    )


def test_verbs_take_the_time_from_the_kernel():
    """now() is when the transaction began; tests could not shift it, and a lock may be long."""
    clock = re.compile(r"(?<![.\w])(now|clock_timestamp|current_timestamp|localtimestamp)\s*\(",
                       re.IGNORECASE)  # fmt: skip
    nothing(
        [
            f"{shown(path)}: {found[0]}"
            for layer in ("kernel", "systems")
            for path in files(".sql", under=PACKAGE / layer)
            for found in clock.finditer(re.sub(r"--.*", "", path.read_text("utf-8")))
        ]
    )


def test_every_read_and_write_names_its_schema():
    """With search_path pinned to pg_catalog a bare name would not even be found: say it here."""
    table = re.compile(
        r"\b(?:insert\s+into|update|delete\s+from|from|join)\s+(?:only\s+)?([a-z_]+)\s"
        r"+(?:(?:as\s+)?[a-z]{1,2}\s|set\b|\()",
        re.IGNORECASE,
    )
    words = {"select", "unnest", "generate_series", "lateral", "set", "distinct", "skip", "of"}
    wrong = []
    for path in files(".sql", under=PACKAGE / "systems"):
        text = re.sub(r"--.*", "", path.read_text("utf-8"))
        made = set(re.findall(r"\b(\w+)\s+as\s+(?:materialized\s+|not\s+materialized\s+)?\(", text))
        for found in table.finditer(text):
            if found[1].lower() not in words | made:
                wrong.append(f"{shown(path)}: {found[0]!r}")
    nothing(wrong)
