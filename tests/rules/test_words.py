"""What may stand in the sources: finished work, in English, that names no machine."""

from __future__ import annotations

import re
from pathlib import Path

from rules.sources import PACKAGE, ROOT, files, nothing, shown

# these words are put together here so that this file does not find itself
UNFINISHED = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
                        + r")\b")  # fmt: skip
CYRILLIC = re.compile("[\u0400-\u04ff]")
# absolute paths of a person's machine, of a build place, and addresses of package indexes
PLACES = re.compile(
    r"(?<![\w.:/])/(?:home|root|Users|work|opt|mnt|media|tmp)/\w"
    r"|pypi\.org|pythonhosted\.org|(?:extra-)?index-url|find-links",
)
OPTION_OF_LOCK = re.compile(r"--no-emit-(?:index-url|find-links)")


def speaks_other_languages(path: Path) -> bool:
    """Tell whether a file is data in the readers' languages, or a test of it."""
    return (
        path.suffix == ".po"
        or "locales" in path.parts
        or path.is_relative_to(ROOT / "tests")
        or path.suffix in {".yaml", ".yml", ".json"}
        or path.stem.endswith("_texts")
        or "grammar" in path.stem
        or "grammar" in path.parent.name
        or "docs" in path.relative_to(ROOT).parts
    )


def lines(*suffixes: str):
    for path in files(*suffixes):
        if path.name == "LICENSE":
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield path, f"{shown(path)}:{number}", line


def test_nothing_is_left_for_later():
    nothing([where for _, where, line in lines() if UNFINISHED.search(line)])


def test_sources_are_in_english():
    nothing(
        [
            where
            for path, where, line in lines()
            if CYRILLIC.search(line) and not speaks_other_languages(path)
        ]
    )


def test_no_file_names_a_machine_or_an_index():
    wrong = []
    for path, where, line in lines():
        if path == Path(__file__):
            continue
        if PLACES.search(OPTION_OF_LOCK.sub("", line)) and not path.is_relative_to(ROOT / "tests"):
            wrong.append(f"{where} {line.strip()[:80]}")
    nothing(wrong)


def test_the_locks_name_no_host():
    peers = ROOT / "bench" / "peers"
    for path in [*(ROOT / "requirements").glob("*.txt"), peers / "requirements.txt"]:
        assert not re.search(r"https?:|file:|git\+|^-|@ ", path.read_text(), re.MULTILINE), path
    assert '"resolved"' not in (peers / "package-lock.json").read_text()


def test_the_package_prints_only_through_the_terminal_of_the_cli():
    nothing(
        [
            f"{shown(path)}"
            for path in files(".py", under=PACKAGE)
            if re.search(r"(?<![\w.])print\(", path.read_text("utf-8"))
        ]
    )


def test_files_end_with_one_newline_and_hold_no_trailing_blanks():
    wrong = []
    for path in files(".py", ".sql", ".md", ".po", ".toml", ".sh", ".css", ".html"):
        text = path.read_text("utf-8")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            wrong.append(shown(path))
        wrong += [f"{shown(path)}:{n}" for n, line in enumerate(text.splitlines(), 1)
                  if line != line.rstrip()]  # fmt: skip
    nothing(wrong)
