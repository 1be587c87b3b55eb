"""Holdfast beside other queues: rounds in turn on one server, and the ratio within each round.

The others carry no money: their job is an empty one, enqueued and processed by the fastest calls
that they document. Holdfast's is charged, audited and announced. Machines change their pace by the
minute, so everybody has a turn in each round, and the ratio of one round says more than the rates
of two. A turn has a fresh database and a fresh process: some queues keep what they did and some
delete it, and what one leaves to be vacuumed is not for the next to wait for.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plot import draw

from holdfast.bench.ground import Ground, database, server
from holdfast.bench.lifecycle import Rates
from holdfast.cli import terminal
from holdfast.cli.bench import machine
from holdfast.postgres.conninfo import as_url

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".peers" / "bin" / "python"
WARM_UP = 2000  # jobs
PATIENCE = 600  # seconds for a peer to end
Found = dict[str, list[Rates]]  # by name, one a round


@dataclass(frozen=True, slots=True)
class Peer:
    """A queue: how to start its side, what must be there, and what part of the jobs it is given."""

    name: str
    command: tuple[str, ...]
    needs: Path
    share: float = 1.0

    @property
    def missing(self) -> bool:
        return not self.needs.exists() or shutil.which(self.command[0]) is None


def node(name: str, script: str) -> Peer:
    return Peer(name, ("node", str(HERE / script)), HERE / "node_modules" / name)


def python(name: str, script: str, share: float = 1.0) -> Peer:
    packages = next(PYTHON.parents[1].glob("lib/python*/site-packages"), PYTHON)
    return Peer(name, (str(PYTHON), str(HERE / script)), packages / name, share)


HOLDFAST = Peer("holdfast", (sys.executable, str(HERE / "holdfast_itself.py")), HERE)
PEERS = (
    node("graphile-worker", "graphile_worker.mjs"),
    python("pgqueuer", "pgqueuer_peer.py"),
    node("pg-boss", "pg_boss.mjs"),
    python("procrastinate", "procrastinate_peer.py", share=0.1),  # one job a statement
)


@contextlib.contextmanager
def running(peer: Peer, server_url: str) -> Iterator[subprocess.Popen[str]]:
    """Start a peer on a database of its own; it ends when its pipe is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with database(server_url) as owner_url:
        environment = os.environ | {"DATABASE_URL": as_url(owner_url)}
        with subprocess.Popen(peer.command, env=environment, **pipes) as process:
            try:
                yield process
                process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()


def ask(peer: Peer, process: subprocess.Popen[str], jobs: int) -> Rates:
    """Have a peer enqueue and process `jobs`."""
    line = ""
    with contextlib.suppress(BrokenPipeError):
        print(jobs, file=process.stdin, flush=True)
        line = process.stdout.readline()
    if not line:
        sys.exit(f"{peer.name} stopped with code {process.wait()}; what it said stands above.")
    took = json.loads(line)
    return Rates(jobs / took["enqueue"], jobs / took["work"])


def measure(peers: list[Peer], jobs: int, rounds: int, server_url: str) -> Found:
    """Turn the wheel: everybody once a round, each time after a warm-up that does not count."""
    found: Found = {peer.name: [] for peer in peers}
    with terminal.progress() as bars:
        bar = bars.add_task("starting", total=len(peers) * rounds)
        for peer in peers * rounds:
            bars.update(bar, description=peer.name)
            with running(peer, server_url) as process:
                ask(peer, process, int(WARM_UP * peer.share))
                found[peer.name].append(ask(peer, process, int(jobs * peer.share)))
            bars.advance(bar)
    return found


def summary(found: Found) -> dict[str, dict[str, float]]:
    """Medians of the rates, and of Holdfast's share of each peer in the same round."""
    ours = found[HOLDFAST.name]
    return {
        name: {
            "enqueued": statistics.median(theirs.enqueued for theirs in rounds),
            "processed": statistics.median(theirs.processed for theirs in rounds),
            "whole": statistics.median(theirs.whole for theirs in rounds),
            "holdfast": statistics.median(
                own.whole / theirs.whole for own, theirs in zip(ours, rounds, strict=True)
            ),
        }
        for name, rounds in found.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--jobs", type=int, default=20_000, help="jobs of a round")
    options.add_argument("--rounds", type=int, default=5, help="rounds; medians count")
    options.add_argument("--url", help="a server and role that may create databases")
    options.add_argument("--json", action="store_true", help="answer as JSON")
    options.add_argument("--svg", type=Path, help="also draw the lifecycles into this file")
    chosen = options.parse_args()
    for peer in PEERS:
        if peer.missing:
            terminal.note(f"{peer.name} is not installed: skipped (`make peers` installs it)")
    there = [HOLDFAST, *(peer for peer in PEERS if not peer.missing)]
    with server(chosen.url) as server_url:
        on = machine(Ground.at(server_url))
        found = summary(measure(there, chosen.jobs, chosen.rounds, server_url))
    if chosen.svg:
        chosen.svg.write_text(draw(found, on, HOLDFAST.name), "utf-8")
    if chosen.json:
        terminal.answer_json({"machine": on, "queues": found})
        return
    terminal.note(on)
    terminal.table(
        ("jobs per second, medians", "enqueued", "processed", "lifecycles", "Holdfast against it"),
        [
            (name, *(f"{row[part]:,.0f}" for part in ("enqueued", "processed", "whole")),
             f"{row['holdfast']:.2f} ×")
            for name, row in found.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
