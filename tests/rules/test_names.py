"""Names say what a thing is; a concept is one stem, and a verb one name all the way down."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from rules.sources import PACKAGE, ROOT, files, nothing, shown, sql_functions

# names that say where something was put, not what it is
EMPTY = {
    "base", "common", "core", "helper", "helpers", "lib", "manager", "managers", "misc", "model",
    "models", "repositories", "repository", "schemas", "service", "services", "util", "utils",
}  # fmt: skip


def test_no_file_folder_or_class_has_an_empty_name():
    wrong = []
    for path in files():
        parts = [part.split(".")[0].lower() for part in path.relative_to(ROOT).parts]
        wrong += [f"{shown(path)}" for part in parts if EMPTY & set(part.split("_"))]
    for path in files(".py", under=PACKAGE):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = node.name if isinstance(node, ast.ClassDef) else ""
            if re.search(r"(Base|Helper|Manager|Model|Repository|Utils?)$", named):
                wrong.append(f"{shown(path)}: {named}")
    nothing(wrong)


def stem(path: Path, layer: str) -> str:
    return path.relative_to(PACKAGE / layer).parts[0].removesuffix(path.suffix)


def pairs(layer: str) -> tuple[set[str], set[str]]:
    """Return the stems of a layer that have SQL, and those that have Python."""
    sql = {stem(path, layer) for path in files(".sql", under=PACKAGE / layer)}
    python = {stem(path, layer) for path in files(".py", under=PACKAGE / layer)}
    return sql, python - {"__init__", "providers"}


def test_every_concept_is_a_pair_with_one_stem():
    """SQL whose functions are all `_internal` has nothing for Python to name."""
    for layer in ("kernel", "systems"):
        spoken = {
            stem(function.path, layer)
            for function in sql_functions(PACKAGE / layer)
            if not function.name.partition(".")[2].startswith("_")
        }
        assert spoken <= pairs(layer)[1], f"{layer}: SQL without its Python"


def test_a_verb_of_a_system_has_the_same_name_in_python():
    """`orders.take` in SQL is `orders.take()` in Python; `_internal` ones are not for Python."""
    missing = []
    sql, python = pairs("systems")
    for system in sorted(sql & python):
        named = {
            node.name
            for path in files(".py", under=PACKAGE / "systems")
            if stem(path, "systems") == system
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        }
        verbs = {
            function.name.split(".")[1]
            for function in sql_functions(PACKAGE / "systems")
            if stem(function.path, "systems") == system
        }
        missing += [f"{system}.{verb}" for verb in verbs if verb[0] != "_" and verb not in named]
    assert missing == []


def test_sql_functions_are_named_with_their_schema():
    schemas = {path.stem for path in (PACKAGE / "kernel").iterdir()} | {"kernel"}
    schemas |= {path.stem for path in (PACKAGE / "systems").iterdir()}
    nothing(
        [
            str(function)
            for function in sql_functions(PACKAGE)
            if function.name.partition(".")[0] not in schemas
        ]
    )


def test_functions_live_in_the_file_of_their_schema():
    nothing(
        [
            str(function)
            for layer in ("kernel", "systems")
            for function in sql_functions(PACKAGE / layer)
            if function.name.partition(".")[0] != stem(function.path, layer)
        ]
    )


def test_tests_mirror_the_package():
    """A folder of tests is a layer, or one of the kinds of proof that have no layer."""
    kinds = {"rules", "races", "journeys", "chaos", "models"}
    layers = {path.stem for path in PACKAGE.iterdir()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= kinds | layers
