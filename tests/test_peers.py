"""Beside other queues: what is compared is one round, who is missing is named, who dies is told."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from holdfast.bench.lifecycle import Rates
from holdfast.postgres.conninfo import as_url

HERE = Path(__file__).parents[1] / "bench" / "peers"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers_run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(HERE))  # as when it is run
    spec.loader.exec_module(module)
    sys.path.remove(str(HERE))
    return module


def test_the_ratio_is_that_of_each_round_not_of_the_medians(peers):
    found = peers.summary(
        {
            "holdfast": [Rates(200, 200), Rates(400, 400), Rates(600, 600)],
            "other": [Rates(100, 100), Rates(400, 400), Rates(100, 100)],
        }
    )
    assert found["holdfast"]["holdfast"] == 1
    assert found["holdfast"]["whole"] == 200  # both halves one after the other
    assert found["other"]["whole"] == 50
    assert found["other"]["holdfast"] == 2  # of 2, 1 and 6


def test_every_driver_reads_the_same_address():
    given = "host='/tmp/a b' port=5433 user=o'neill password='p@ss/w' dbname=a_bench"
    written = as_url(given)
    assert written.startswith("postgresql://o%27neill:p%40ss%2Fw@/a_bench?")
    assert conninfo_to_dict(written) == {
        "host": "/tmp/a b", "port": "5433", "user": "o'neill", "password": "p@ss/w",
        "dbname": "a_bench",
    }  # fmt: skip


def test_who_is_not_installed_is_named_and_the_rest_measured(
    peers, cluster, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(peers, "PEERS", (peers.node("no-such-queue", "no_such_queue.mjs"),))
    drawn = tmp_path / "peers.svg"
    given = f"run.py --jobs 1000 --rounds 1 --json --svg {drawn}"
    monkeypatch.setattr(sys, "argv", [*given.split(), "--url", cluster.url])
    peers.main()
    said = capsys.readouterr()
    assert "no-such-queue is not installed: skipped" in said.err
    found = json.loads(said.out)
    assert "cores" in found["machine"]
    assert list(found["queues"]) == ["holdfast"]
    assert min(found["queues"]["holdfast"].values()) > 0
    picture = ElementTree.parse(drawn)
    bars = picture.findall(".//{*}rect")[1:]
    assert len(bars) == 1
    assert "holdfast" in "".join(picture.getroot().itertext())


def test_who_dies_is_told_by_name_and_leaves_nothing_behind(peers, cluster):
    broken = peers.Peer("broken", (sys.executable, "-c", "raise SystemExit(3)"), HERE)
    with pytest.raises(SystemExit, match="broken stopped with code 3"):
        peers.measure([broken], 1000, 1, cluster.url)
    with psycopg.connect(cluster.url) as connection:
        left = connection.execute(
            "select datname from pg_database where datname like %s", [f"%bench_{os.getpid()}_%"]
        ).fetchall()
    assert left == []
