"""Each example is run as a newcomer runs it, and does what it says, to the last crystal."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import psycopg
import pytest

from holdfast.kernel import verify
from holdfast.postgres.conninfo import as_url
from processes import SOURCES
from rules.sources import ROOT

EXAMPLES = ROOT / "examples"
PROGRAMS = {"outside_queue.py", "own_jobs.py", "own_machine.py"}


def run(name: str, **variables: str) -> list[str]:
    """Run one to its end and return what it printed."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith("HOLDFAST_")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        env=kept | {"PYTHONPATH": str(SOURCES)} | variables,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def place(app_url, owner_url, tmp_path) -> dict[str, str]:
    return {
        "HOLDFAST_DATABASE_URL": as_url(app_url),
        "HOLDFAST_OWNER_URL": as_url(owner_url),
        "HOLDFAST_HOME": str(tmp_path),
    }


async def test_a_celery_worker_captures_releases_and_is_killed(place, db, owner_url):
    assert run("outside_queue.py", **place) == [
        "works: held 40               balance 100  held 40",
        "   rendered: 30 captured, the rest released",
        "works: done                  balance  70  held  0",
        "fails: held 40               balance  70  held 40",
        "   failed: the credit is free again",
        "fails: done                  balance  70  held  0",
        "crashes: held 70             balance  70  held 70",
        "   1 more is refused: 0 available",
        "crashes: expired             balance  70  held  0",
        "   not delivered: the hold is EXPIRED",
        "crashes: after a late try    balance  70  held  0",
    ]
    with psycopg.connect(owner_url) as owner:
        ends = owner.execute("select status, amount, captured from ledger.hold order by at")
        assert ends.fetchall() == [("CAPTURED", 40, 30), ("RELEASED", 40, 0), ("EXPIRED", 70, 0)]
    assert not [one for one in await verify.run(db) if one.violations]


async def test_own_kinds_of_jobs(place, db, owner_url):
    assert run("own_jobs.py", **place) == [
        "ada begins with 100",
        "checksum   completed attempt 1  charged  5  refunded  0  balance  95  held 0",
        "invoice    completed attempt 1  charged 10  refunded  0  balance  85  held 0",
        "invoice    failed    attempt 1  charged 10  refunded 10  balance  85  held 0",
        "transcript completed attempt 1  charged  6  refunded  0  balance  79  held 0",
        "invoices: 1",
    ]
    with psycopg.connect(owner_url) as owner:
        [[longer]] = owner.execute(
            "select finished_at - started_at > interval '2 s' from queue.job"
            " where kind = 'checksum'"
        ).fetchall()
    assert longer, "it computed for longer than two leases"
    assert not [one for one in await verify.run(db) if one.violations]


def test_an_own_machine_on_a_database_that_the_example_starts(tmp_path):
    printed = run("own_machine.py", HOME=str(tmp_path))
    assert printed[:2] == ["stateDiagram-v2", "    [*] --> PACKED"]
    answers = [line for line in printed if re.match(r"[A-Z]+ +(yes|no)", line)]
    assert [line.split()[:2] for line in answers] == [
        ["SENT", "yes"], ["PACKED", "no:"], ["DELIVERED", "yes"], ["LOST", "no:"],
    ]  # fmt: skip
    assert answers[1].endswith("may not go from SENT to PACKED (KH001)")
    assert printed[-2:] == ["PACKED → SENT", "SENT → DELIVERED"]


def test_every_example_is_run_here_and_stands_in_the_index():
    assert {path.name for path in EXAMPLES.glob("*.py")} == PROGRAMS | {"places.py"}
    index = (EXAMPLES / "README.md").read_text()
    assert all(f"]({name})" in index for name in PROGRAMS)
