"""A relay is killed (SIGKILL) wherever it hurts: everything arrives, with its id, in order."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from courses_content import Learner, publish
from holdfast.kernel import outbox
from holdfast.systems import courses
from holdfast.systems.providers.webhooks import new_secret
from receiving import Receiver

PROGRAM = Path(__file__).parents[1] / "relay_process.py"


@pytest.fixture
async def relays(app_url):
    """Start relays as processes; none is left running."""
    started = []

    async def start():
        made = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), app_url, stdout=asyncio.subprocess.DEVNULL
        )
        started.append(made)
        return made

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def kill(process):
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def until(true, seconds=30):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture
async def learner(db, owner, new_account):
    await publish(db, "c", ["a"], ["b"], ["d"])
    return await Learner.enrol(db, await new_account())


@pytest.fixture
async def receiver(db, learner, new_account):
    async with Receiver().up() as made:
        await outbox.add_webhook(
            db,
            account_id=await new_account(),
            url=made.url,
            topics=["courses.*"],
            secret=new_secret(),
        )
        yield made


def told(receiver):
    bodies = [json.loads(r.body) for r in receiver.got]
    return [(b["id"], b["sequence"]) for b in bodies]


async def committed(owner):
    return await (
        await owner.execute(
            "select id::text, seq from outbox.effect where source is null"
            " and topic like 'courses.%' order by seq"
        )
    ).fetchall()


async def leases_end(owner):
    await owner.execute("update kernel.clock set shift = shift + interval '31 seconds'")


async def test_killed_between_commit_and_push(db, owner, learner, receiver, relays):
    """The program that commits dies at once, before anything was sent; another relay sends."""
    relay = await relays()
    await kill(relay)
    await learner.complete("a")
    await learner.complete("b")
    assert receiver.got == []
    await relays()
    await until(lambda: len(receiver.got) == 2)
    assert told(receiver) == await committed(owner)


async def test_killed_between_push_and_acknowledgement(db, owner, learner, receiver, relays):
    """The receiver has it, the relay dies before it could say so: it is sent again, by its id."""
    receiver.hold = asyncio.Event()
    relay = await relays()
    await learner.complete("a")
    await learner.complete("b")
    await until(lambda: len(receiver.got) == 1)
    await kill(relay)
    receiver.hold.set()
    await learner.complete("d")
    await leases_end(owner)
    await relays()
    await until(lambda: len(receiver.got) == 5)
    want = await committed(owner)
    assert told(receiver) == [want[0], *want]


async def test_killed_again_and_again(db, owner, learner, new_account, receiver, relays):
    """In the middle of a busy time: all arrive, and each person's first deliveries in order."""
    people = [learner, *[await Learner.enrol(db, await new_account()) for _ in range(7)]]
    for key in "abd":
        relay = await relays()
        before = len(receiver.got)
        await asyncio.gather(*(person.complete(key) for person in people))
        await until(lambda seen=before: len(receiver.got) >= seen + 3)
        await kill(relay)
        await leases_end(owner)
    await relays()
    want = set(await committed(owner))
    assert len(want) == len(people) * 4
    await until(lambda: set(told(receiver)) == want)
    for person in people:
        bodies = [json.loads(r.body) for r in receiver.got]
        mine = [b["sequence"] for b in bodies if b["stream"] == str(person.account)]
        assert list(dict.fromkeys(mine)) == [1, 2, 3, 4]


async def test_rolled_back_sends_nothing(db, owner, learner, receiver, relays):
    await relays()
    step = (await learner.step("a"))["id"]
    async with db.transaction() as connection:
        await courses.complete_step(connection, step_id=step, **learner.who)
        raise psycopg.Rollback
    await learner.complete("a")
    await until(lambda: receiver.got)
    assert len(told(receiver)) == len(await committed(owner)) == 1
