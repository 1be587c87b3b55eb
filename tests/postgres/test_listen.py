"""LISTEN wakes who waits, keeps what came meanwhile, and comes back by itself."""

import asyncio

import psycopg
import pytest

from holdfast.postgres.listen import Listener


@pytest.fixture
async def teller(empty_url: str):
    async with await psycopg.AsyncConnection.connect(empty_url, autocommit=True) as connection:
        yield connection


async def test_a_notification_wakes_every_ear_of_its_channel_once(empty_url, teller):
    async with Listener(empty_url, ["jobs", "other"]) as listener:
        await asyncio.wait_for(listener.connected.wait(), 5)
        ears = [listener.ear("jobs"), listener.ear("jobs")]
        deaf = listener.ear("other")
        waits = [asyncio.create_task(ear.wait(5)) for ear in ears]
        await teller.execute("notify jobs")
        assert await asyncio.gather(*waits) == [True, True]
        assert not await ears[0].wait(0)
        assert not await deaf.wait(0)


async def test_what_came_while_nobody_waited_is_kept_as_one(empty_url, teller):
    async with Listener(empty_url, ["jobs"]) as listener:
        await asyncio.wait_for(listener.connected.wait(), 5)
        ear, witness = listener.ear("jobs"), listener.ear("jobs")
        for _ in range(3):
            await teller.execute("notify jobs")
            assert await witness.wait(5)
        assert await ear.wait(5)
        assert not await ear.wait(0)


async def test_a_lost_connection_is_made_anew_and_everybody_looks(empty_url, teller):
    async with Listener(empty_url, ["jobs"]) as listener:
        await asyncio.wait_for(listener.connected.wait(), 5)
        ear = listener.ear("jobs")
        cursor = await teller.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'holdfast-listen' and datname = current_database()"
        )
        assert await cursor.fetchone() == (1,)
        assert await ear.wait(5)  # woken by the new connection: something may have been missed
        await teller.execute("notify jobs")
        assert await ear.wait(5)


async def test_a_quiet_connection_is_probed_and_still_hears(empty_url, teller, monkeypatch):
    monkeypatch.setattr("holdfast.postgres.listen._PROBE_EVERY", 0.02)
    async with Listener(empty_url, ["jobs"]) as listener:
        await asyncio.wait_for(listener.connected.wait(), 5)
        probes = (
            "select count(*) from pg_stat_activity where query = 'select 1'"
            " and application_name = 'holdfast-listen' and datname = current_database()"
        )
        async with asyncio.timeout(5):
            while await (await teller.execute(probes)).fetchone() == (0,):
                await asyncio.sleep(0.01)
        ear = listener.ear("jobs")
        await teller.execute("notify jobs")
        assert await ear.wait(5)


async def test_without_a_url_only_this_process_is_heard():
    async with Listener(None, ["jobs"]) as listener:
        ear = listener.ear("jobs")
        assert not await ear.wait(0.01)
        ear.wake()
        assert await ear.wait(5)
        assert not listener.connected.is_set()
    with pytest.raises(ValueError, match="nobody"):
        listener.ear("nobody")
