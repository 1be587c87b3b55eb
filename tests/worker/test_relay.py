"""The relay: in order, at least once, and what cannot be delivered is somebody's decision."""

import asyncio
from uuid import uuid4

import pytest

from holdfast.kernel import outbox, queue, verify
from holdfast.kernel.outbox import (
    DeliveryFailed,
    DeliveryPointless,
    DeliveryPostponed,
    DeliveryRefused,
)
from holdfast.worker import Relay


class Post:
    """A channel that remembers what it got, and does with some what a test says."""

    def __init__(self):
        self.got = []
        self.trouble = {}

    async def deliver(self, effect):
        await asyncio.sleep(0)
        if problem := self.trouble.get(effect.topic):
            raise problem
        self.got.append((effect.stream, effect.seq, effect.topic))


@pytest.fixture
async def people(db, new_account):
    """Three people, each of whom bought two jobs and called the first off: four effects each."""
    await queue.declare_kind(db, queue.Kind("work"))
    made = [await new_account() for _ in range(3)]
    for person in made:
        bought = await queue.submit(
            db,
            [{"account_id": person, "kind": "work", "payload": {}, "price": 1,
              "key": uuid4().hex} for _ in range(2)],
        )  # fmt: skip
        await queue.cancel(db, job_id=bought[0].id, owners=None, actor="admin")
    return made


async def test_everything_leaves_in_order_per_stream(db, people):
    post = Post()
    relay = Relay(db, {"log": post})
    while await relay.once():
        pass
    for person in people:
        mine = [(seq, topic) for stream, seq, topic in post.got if stream == person]
        assert mine == [(1, "jobs.queued"), (2, "jobs.queued"), (3, "jobs.cancelled")]
    assert [one for one in await verify.run(db) if one.violations] == []


async def test_two_relays_at_once_deliver_each_once(db, people):
    post = Post()
    relays = [Relay(db, {"log": post}) for _ in range(2)]
    while sum(await asyncio.gather(*(relay.once() for relay in relays))):
        pass
    assert len(post.got) == len(set(post.got)) == 9


async def test_what_fails_holds_its_stream_and_is_dead_after_its_tries(db, people, owner, capsys):
    post = Post()
    post.trouble["jobs.queued"] = DeliveryFailed("the receiver is down")
    relay = Relay(db, {"log": post}, tries=2)
    await relay.once()
    assert post.got == []
    assert await outbox.dead_letters(db) == []
    await owner.execute("update outbox.stream set ready_at = kernel.now()")
    await relay.once()
    dead = await outbox.dead_letters(db)
    assert {(one.stream, one.seq, one.behind) for one in dead} == {(p, 1, 2) for p in people}
    told = [line for line in capsys.readouterr().out.splitlines() if "[error" in line]
    assert len(told) == 3
    assert all("holdfast effects redrive" in line for line in told)
    post.trouble.clear()
    assert await relay.once() == 0  # nothing passes a dead letter
    await outbox.decide(db, effect_id=dead[0].id, action="redrive", actor="admin")
    await outbox.decide(db, effect_id=dead[1].id, action="skip", actor="admin")
    while await relay.once():
        pass
    seqs = {person: [seq for stream, seq, _ in post.got if stream == person] for person in people}
    assert seqs[dead[0].stream] == [1, 2, 3]
    assert seqs[dead[1].stream] == [2, 3]
    assert seqs[dead[2].stream] == []


@pytest.mark.parametrize(
    ("problem", "status"),
    [(DeliveryRefused("never"), "DEAD"), (DeliveryPointless("nobody"), "CANCELLED"),
     (DeliveryPostponed("it is night", 60), "READY"), (KeyError("a defect"), "READY")],
)  # fmt: skip
async def test_what_a_channel_says_is_what_stands(db, people, owner, problem, status):
    post = Post()
    post.trouble["jobs.queued"] = problem
    await Relay(db, {"log": post}).once()
    rows = await owner.execute("select distinct status from outbox.effect where seq = 1")
    assert await rows.fetchall() == [(status,)]
    postponed = await owner.execute("select max(attempts) from outbox.stream where channel = 'log'")
    assert (await postponed.fetchone())[0] == (1 if isinstance(problem, KeyError) else 0)


async def test_a_stream_without_its_channel_waits(db, people):
    assert await Relay(db, {}).once() == 0
    post = Post()
    assert await Relay(db, {"log": post}).once() == 0  # for a minute
