"""Effects leave in order, once settled never again, and a dead letter stops what is behind it."""

import asyncio
import json
from uuid import UUID, uuid4

import psycopg
import pytest

from holdfast.errors import BrokenPromise, EffectNotDead, NotFound
from holdfast.kernel import ledger, outbox, queue
from holdfast.kernel.outbox import Settlement


async def append(owner, stream, *topics, valid_while=None):
    """Write effects as a verb does: the stream locked, in one transaction; returns their ids."""
    made = []
    async with owner.transaction():
        await owner.execute("select outbox._lock(array[%s]::uuid[], true)", [stream])
        for topic in topics:
            row = await (
                await owner.execute("select kernel.new_id(kernel.bucket_of(%s))", [stream])
            ).fetchone()
            made.append(row[0])
            await owner.execute(
                "select outbox._append(array[%s]::uuid[], array[%s]::uuid[], array[%s],"
                " array['{}']::jsonb[], array[null]::text[], kernel.now(), array[%s]::jsonb[])",
                [stream, row[0], topic, valid_while and json.dumps(valid_while)],
            )
    return made


async def shift(owner, seconds):
    await owner.execute(
        "update kernel.clock set shift = shift + make_interval(secs => %s)", [seconds]
    )


@pytest.fixture
async def person(owner, new_account):
    """A person's stream with nothing waiting in it."""
    made = await new_account()
    await owner.execute("update outbox.effect set status = 'DELIVERED'")
    await owner.execute("update outbox.stream s set done_seq = outbox._last(s), ready_at = null")
    return made


async def take(db, stream, **how):
    return [e for e in await outbox.lease(db, **how) if e.stream == stream]


async def tell(db, effect, outcome, **more):
    return await outbox.settle(
        db, [Settlement(effect.stream, effect.token, effect.seq, outcome, **more)]
    )


async def test_leased_in_order_by_one_relay_at_a_time(db, owner, person):
    ids = await append(owner, person, "a", "b", "c")
    got = await take(db, person)
    assert [e.id for e in got] == ids
    assert [e.topic for e in got] == ["a", "b", "c"]
    assert await take(db, person) == [], "leased: nobody else sends from it"
    await append(owner, person, "d")
    assert await take(db, person) == [], "not even what came later"
    assert await tell(db, got[2], "delivered") == ["ok"]
    assert await outbox.release(db, [(person, got[0].token)]) == 1
    assert [e.topic for e in await take(db, person)] == ["d"]


async def test_whoever_has_something_to_say_wakes_a_stream_that_had_said_all(db, owner, person):
    await queue.declare_kind(db, queue.Kind("story", backoff=0.0))
    await ledger.grant(db, account_id=person, amount=100, key="g")

    async def said(*topics):
        got = await take(db, person)
        assert [e.topic for e in got] == [*topics]
        assert await tell(db, got[-1], "delivered") == ["ok"]
        assert await outbox.release(db, [(person, got[0].token)]) == 1
        assert await take(db, person) == [], "nothing is left"

    jobs = [
        {"account_id": person, "kind": "story", "payload": {}, "price": price, "key": f"k{price}"}
        for price in (1, 2, 10**9, 3, 4)
    ]
    await queue.submit(db, jobs)  # the third is refused
    await said(*["jobs.queued"] * 4)
    await queue.submit(db, jobs[2:3])
    assert await take(db, person) == [], "a refusal wakes nobody"
    done, failed, off = await queue.claim(db, worker="worker:a", kinds=["story"], limit=3)
    await queue.finish(db, job_id=done.id, token=done.token, result={})
    await said("jobs.completed")
    await queue.fail(db, job_id=failed.id, token=failed.token, code="x", permanent=True)
    await said("jobs.failed")
    await queue.cancel(db, job_id=off.id, owners=[person], actor=str(person))
    await said("jobs.cancelled")
    await ledger.hold(db, account_id=person, amount=1, ttl=60, cause="x", key="h")
    await said("holds.open")


async def test_a_lost_lease_settles_nothing(db, owner, person):
    await append(owner, person, "a")
    (slow,) = await take(db, person, seconds=5)
    await shift(owner, 6)
    (fast,) = await take(db, person)
    assert fast.id == slow.id
    assert await tell(db, slow, "delivered") == ["lease_lost"]
    assert await outbox.still_valid(db, slow) == "lease_lost"
    assert await outbox.release(db, [(person, slow.token)]) == 0
    assert await tell(db, fast, "delivered") == ["ok"]


async def test_settling_again_changes_nothing(db, owner, person):
    await append(owner, person, "a", "b", "c")
    one, _, three = await take(db, person)
    assert await tell(db, three, "delivered") == ["ok"]
    assert await tell(db, one, "delivered") == ["ok"], "an answer that was lost: asked again"
    row = await (
        await owner.execute(
            "select outbox._last(s) - done_seq from outbox.stream s where stream = %s",
            [person],
        )
    ).fetchone()
    assert row[0] == 0, "nothing is sent again"


async def test_only_the_next_one_can_be_dead_or_cancelled(db, owner, person):
    await append(owner, person, "a", "b")
    one, two = await take(db, person)
    for outcome in ("dead", "cancelled", "skipped", "failed", "later"):
        with pytest.raises(BrokenPromise):
            await tell(db, two, outcome)
    statuses = await (
        await owner.execute(
            "select array_agg(status order by seq) from outbox.effect"
            " where stream = %s and seq >= %s",
            [person, one.seq],
        )
    ).fetchone()
    assert statuses[0] == ["READY", "READY"]


async def test_a_failed_one_is_tried_again_first_and_after_its_time(db, owner, person):
    await append(owner, person, "a", "b")
    one, _ = await take(db, person)
    await tell(db, one, "failed", error="503", retry=60)
    assert await take(db, person) == []
    await shift(owner, 61)
    again, _ = await take(db, person)
    assert (again.id, again.attempts) == (one.id, 1)
    await tell(db, again, "later", retry=3600)
    await shift(owner, 3601)
    later, _ = await take(db, person)
    assert (later.id, later.attempts) == (one.id, 1), "waiting for its time is no attempt"


async def test_a_dead_letter_blocks_until_it_is_redriven_and_order_holds(db, owner, person):
    ids = await append(owner, person, "a", "b")
    one, _ = await take(db, person)
    await tell(db, one, "dead", error="400")
    ids += await append(owner, person, "c")
    await shift(owner, 3600)
    assert await take(db, person) == [], "nothing passes a dead letter"
    (letter,) = await outbox.dead_letters(db)
    assert (letter.id, letter.behind, letter.error) == (ids[0], 2, "400")
    assert await outbox.decide(db, effect_id=ids[0], action="redrive", actor="admin") == "READY"
    got = await take(db, person)
    assert [e.id for e in got] == ids
    await tell(db, got[-1], "delivered")
    assert await outbox.dead_letters(db) == []


async def test_a_skipped_dead_letter_is_passed_by(db, owner, person):
    ids = await append(owner, person, "a")
    (one,) = await take(db, person)
    await tell(db, one, "dead", error="400")
    assert await outbox.decide(db, effect_id=ids[0], action="skip", actor="admin") == "SKIPPED"
    ready = await (
        await owner.execute("select ready_at from outbox.stream where stream = %s", [person])
    ).fetchone()
    assert ready == (None,), "an empty stream is not leased for ever"
    ids += await append(owner, person, "b")
    assert [e.id for e in await take(db, person)] == ids[1:]
    with pytest.raises(EffectNotDead) as caught:
        await outbox.decide(db, effect_id=ids[0], action="redrive", actor="admin")
    assert caught.value.facts["status"] == "SKIPPED"
    with pytest.raises(NotFound):
        await outbox.decide(db, effect_id=uuid4(), action="skip", actor="admin")


async def test_two_admins_decide_once(db, owner, person):
    (letter,) = await append(owner, person, "a")
    (one,) = await take(db, person)
    await tell(db, one, "dead")
    outcomes = await asyncio.gather(
        *(
            outbox.decide(db, effect_id=letter, action=action, actor="admin")
            for action in ("redrive", "skip", "redrive", "skip")
        ),
        return_exceptions=True,
    )
    won = [o for o in outcomes if isinstance(o, str)]
    assert len(won) == 1
    assert all(isinstance(o, EffectNotDead) for o in outcomes if not isinstance(o, str))


async def test_an_effect_for_a_stream_that_is_not_there_undoes_the_transaction(owner):
    nowhere = UUID("01890000-0000-7000-8000-000000000001")
    with pytest.raises(psycopg.Error, match="not there"):
        await append(owner, nowhere, "a")


async def set_timer(owner, stream, key, seconds, valid_while=None, local=None):
    async with owner.transaction():
        await owner.execute("select outbox._lock(array[%s]::uuid[], true)", [stream])
        await owner.execute(
            "select outbox._set_timers(%s, array[%s],"
            " array[kernel.new_id(kernel.bucket_of(%s))], array[%s], array['{}']::jsonb[],"
            " array[%s]::jsonb[], array[kernel.now() + make_interval(secs => %s)],"
            " array[%s]::timestamp[], kernel.now())",
            [stream, key, stream, key, valid_while and json.dumps(valid_while), seconds, local],
        )


async def test_timers_leave_in_the_order_in_which_they_were_due(db, owner, person):
    await set_timer(owner, person, "third", 300)
    await set_timer(owner, person, "first", 100)
    await set_timer(owner, person, "second", 200)
    await append(owner, person, "now")
    assert [e.topic for e in await take(db, person, seconds=1)] == ["now"]
    await shift(owner, 301)
    got = await take(db, person)
    assert [e.topic for e in got] == ["now", "first", "second", "third"]
    assert await outbox.timers(db, stream=person) == []


async def test_a_cancelled_timer_never_leaves_and_a_set_one_is_replaced(db, owner, person):
    await set_timer(owner, person, "a", 100)
    await set_timer(owner, person, "b", 100)
    await set_timer(owner, person, "b", 500)
    await owner.execute("select outbox._cancel_timers(%s, array['a'])", [person])
    await shift(owner, 101)
    assert await take(db, person) == []
    assert [t.key for t in await outbox.timers(db, stream=person)] == ["b"]


async def test_a_verb_that_holds_the_stream_and_cancels_is_not_deadlocked(db, owner, person):
    """The relay ripens timers while a verb holds their stream: it passes by, nobody waits."""
    await set_timer(owner, person, "a", -1)
    async with owner.transaction():
        await owner.execute("select outbox._lock(array[%s]::uuid[], true)", [person])
        assert await asyncio.wait_for(take(db, person), 5) == []
        await owner.execute("select outbox._cancel_timers(%s, array['a'])", [person])
    assert await take(db, person) == []


async def test_what_is_over_at_send_is_not_valid(db, owner, person, new_account):
    about = {"entity": "account", "id": str(person), "statuses": ["ACTIVE"]}
    await append(owner, person, "a", valid_while=about)
    await append(owner, person, "b", valid_while=[about, {**about, "also": {"locale": "ru"}}])
    one, two = await take(db, person)
    assert (one.valid, one.conditional) == (True, True)
    assert (two.valid, two.conditional) == (False, True)
    assert await outbox.still_valid(db, one) == "ok"
    await owner.execute("update accounts.account set status = 'ERASED' where id = %s", [person])
    assert await outbox.still_valid(db, one) == "cancelled"


async def test_a_timer_on_the_persons_clock_follows_him(db, owner, person):
    await set_timer(owner, person, "local", 0, local="2030-06-01 18:00")
    await set_timer(owner, person, "absolute", 100)
    absolute = {t.key: t.due_at for t in await outbox.timers(db, stream=person)}["absolute"]
    for zone, due in (("Asia/Tokyo", "09:00"), ("America/New_York", "22:00")):
        await owner.execute(
            "update accounts.account set time_zone = %s where id = %s", [zone, person]
        )
        found = {t.key: t.due_at for t in await outbox.timers(db, stream=person)}
        assert f"{found['local']:%H:%M}" == due
        assert found["absolute"] == absolute


async def waiting(db):
    async with db.connection() as connection:
        cursor = await connection.execute(
            "select count(distinct e.stream) from outbox.effect e"
            " join outbox.stream s on s.stream = e.stream where e.seq > s.done_seq"
        )
        return (await cursor.fetchone())[0]


async def test_the_law_of_the_outbox_under_many_relays(db, owner, new_account):
    """Eight relays, thirty people, failures everywhere: each effect once settled, in order."""
    people = [await new_account() for _ in range(30)]
    for person in people:
        await append(owner, person, *(f"t{n}" for n in range(10)))
    sent: dict[UUID, list[int]] = {person: [] for person in people}

    async def relay(number):
        turn = 0
        for _ in range(400):
            got = await outbox.lease(db, streams=5, effects=4)
            if not got:
                if await waiting(db) == 0:
                    return
                await asyncio.sleep(0.01)
                continue
            broken: set[UUID] = set()
            for effect in got:
                if effect.stream in broken:
                    continue
                turn += 1
                sent[effect.stream].append(effect.seq)
                failed = (turn + number) % 7 == 0
                outcome = "failed" if failed else "delivered"
                assert await tell(db, effect, outcome) == ["ok"]
                if failed:
                    broken.add(effect.stream)
            await outbox.release(db, [(e.stream, e.token) for e in got])

    await asyncio.gather(*(relay(n) for n in range(8)))
    for seqs in sent.values():
        first_times = list(dict.fromkeys(seqs))
        assert first_times == sorted(first_times)
        assert len(first_times) == 10
    row = await (
        await owner.execute("select count(*) from outbox.effect where status <> 'DELIVERED'")
    ).fetchone()
    assert row[0] == 0
