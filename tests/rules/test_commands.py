"""What the pages tell a person to type exists, and CI types the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rules.sources import ROOT, files, nothing, shown

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9]*):(?!=)", MAKEFILE, re.MULTILINE))


CODE = re.compile(r"```(?:sh|console)?\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def code(text: str) -> str:
    """Return what a page shows as code: blocks and `spans`."""
    return "\n".join(block or span for block, span in CODE.findall(text))


def test_the_readme_begins_with_the_two_commands():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line.split("#")[0].strip() for line in blocks[0].splitlines()]
    assert commands == ["make run", "make test"]


def test_ci_runs_the_readmes_test_command_and_nothing_else():
    script = (ROOT / ".ci" / "run").read_text()
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines == ["set -eu", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_every_make_target_that_a_page_names_exists():
    wrong = []
    for path in [*files(".md"), *files(".py", ".po", under=ROOT / "src")]:
        for target in re.findall(r"(?:^|[`$\s])make ([a-z][a-z0-9]*)`?(?=$|[`\s)])",
                                 code(path.read_text("utf-8")), re.MULTILINE):  # fmt: skip
            if target not in TARGETS:
                wrong.append(f"{shown(path)}: make {target}")
    nothing(wrong)


def test_every_command_that_a_page_or_a_message_names_exists():
    named: dict[str, str] = {}
    for path in [*files(".md"), *files(".po", under=ROOT / "src")]:
        for command in re.findall(r"(?:^|`)holdfast ([a-z]+)", code(path.read_text("utf-8")), re.M):
            named.setdefault(command, shown(path))
    assert named
    missing = [
        f"{where}: holdfast {command}"
        for command, where in named.items()
        if subprocess.run(
            [Path(sys.executable).with_name("holdfast"), command, "--help"],
            capture_output=True, check=False,
        ).returncode
    ]  # fmt: skip
    nothing(missing)


def test_every_target_tells_what_it_is_for():
    assert set(re.findall(r"^([a-z][a-z0-9]*):.*## \S", MAKEFILE, re.MULTILINE)) == TARGETS


def test_links_between_pages_lead_somewhere():
    wrong = []
    for path in files(".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                wrong.append(f"{shown(path)}: {target}")
    nothing(wrong)
