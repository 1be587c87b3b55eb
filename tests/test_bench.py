"""What the measurements themselves stand on: a figure that is wrong is worse than none."""

import asyncio
import statistics
import threading
import time

import psycopg

from holdfast.bench import start, take
from holdfast.bench.ground import Ground
from holdfast.bench.link import link
from holdfast.config import Settings

ROUND_TRIP = 0.02


def _seconds(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        spent = []
        for _ in range(5):
            began = time.perf_counter()
            assert connection.execute("select 41 + 1").fetchone() == (42,)
            spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def test_a_link_makes_each_round_trip_longer_and_leaves_nothing_behind(owner_url):
    before = threading.active_count()
    with link(owner_url, ROUND_TRIP) as far:
        assert _seconds(far) >= ROUND_TRIP
    assert threading.active_count() == before


def test_takes_are_compared_near_and_far(owner_url, app_url):
    done = []
    found = asyncio.run(take.ratios(Ground(owner_url, app_url), 20, tell=done.append))
    assert sum(done) == 40
    assert min(found.take_ms, found.seed_ms, found.compound_ms, found.bare_ms) > 0
    assert found.far_take_ms >= found.take_ms + take.ROUND_TRIP * 1000 * 0.5
    # Four round trips beside one.
    assert found.far_seed_ms - found.seed_ms > found.far_take_ms - found.take_ms


def test_a_start_is_told_from_the_call_and_from_its_commit(owner_url, app_url):
    done = []
    found = asyncio.run(
        start.measure(Ground(owner_url, app_url), Settings.read({}), 20, tell=done.append)
    )
    assert sum(done) == len(found.from_call) == len(found.from_commit) == 20
    assert found.from_call == sorted(found.from_call)
    assert all(
        call - commit > 0 for call, commit in zip(found.from_call, found.from_commit, strict=True)
    )
    # The worker was told, it did not find the job by looking again.
    assert statistics.median(found.from_commit) < Settings.read({}).poll_seconds * 1000 / 2
