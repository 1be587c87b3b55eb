"""STYLE.md names the test or the linter that holds each rule."""

from __future__ import annotations

import re

from rules.sources import ROOT

RULE = re.compile(r"^\| (.+) \| (.+) \|$", re.MULTILINE)


def test_every_house_rule_names_what_holds_it():
    rows = [row for row in RULE.findall((ROOT / "STYLE.md").read_text()) if "---" not in row[0]]
    assert len(rows) > 15
    for rule, holder in rows[1:]:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", holder)
        linted = re.findall(r"`(ruff|mypy|lint-imports)", holder)
        assert named or linted, f"nothing holds the rule: {rule}"
        for file, test in named:
            path = ROOT / "tests" / file
            assert path.exists(), file
            assert f"def {test}(" in path.read_text(), f"{file} has no {test}"
