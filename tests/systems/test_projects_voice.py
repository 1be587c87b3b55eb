"""The voice of a script: paid once, spoken whole or given back."""

import asyncio
import io
import time
import wave
from uuid import uuid4

import pytest

from holdfast import errors
from holdfast.config import Settings
from holdfast.kernel import ledger, queue
from holdfast.postgres.pool import Database
from holdfast.systems import projects
from holdfast.worker import Worker
from systems.wizard import SCRIPT, Wizard


@pytest.fixture
async def wizard(db, owner, new_account) -> Wizard:
    made = await Wizard.begin(db, owner, new_account)
    await made.save(3, {"finalScript": SCRIPT})
    return made


@pytest.fixture
async def worker(app_url, tmp_path):
    """A whole worker, with every kind of the systems."""
    settings = Settings(
        home=tmp_path, poll_seconds=0.2, sweep_seconds=0.2, job_backoff_seconds=0.01
    )
    made = await Worker.open(app_url, settings)
    running = asyncio.create_task(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    yield made
    made.stop()
    await asyncio.wait_for(running, 30)
    await made.close()


async def ended(db: Database, job_id, within: float = 60) -> queue.Job:
    end = time.monotonic() + within
    while True:
        job = await queue.get(db, job_id=job_id, owners=None)
        if job.status not in ("queued", "processing"):
            return job
        assert time.monotonic() < end, job
        await asyncio.sleep(0.05)


async def entries(wizard: Wizard) -> list[tuple[str, int]]:
    found = await ledger.transactions(wizard.db, account_id=wizard.person)
    return [(entry.kind, entry.amount) for entry in reversed(found)]


async def test_a_script_becomes_one_sound_for_each_scene_paid_once(wizard, worker):
    ordered = await wizard.voice("k")
    job = await ended(wizard.db, ordered.id)
    assert job.status == "completed", job
    files = await queue.artifacts(wizard.db, job_id=job.id, owners=[wizard.person])
    assert [(f.n, f.name, f.media_type) for f in files] == [
        (1, "scene-01.wav", "audio/wav"),
        (2, "scene-02.wav", "audio/wav"),
    ]
    for file in files:
        part = await queue.artifact(wizard.db, job_id=job.id, n=file.n, owners=[wizard.person])
        with wave.open(io.BytesIO(part.data)) as sound:
            assert sound.getnframes() / sound.getframerate() == pytest.approx(file.seconds)
            assert file.seconds > 0.8
    assert job.result["scenes"] == 2
    assert job.result["seconds"] == pytest.approx(sum(f.seconds for f in files), abs=0.02)
    again = await wizard.voice("k")
    assert (again.id, again.replayed) == (job.id, True)
    assert await entries(wizard) == [("grant", 100), ("charge", -5)]
    [seen] = await projects.voicings(wizard.db, project_id=wizard.project, family=[wizard.person])
    assert (seen.job_id, seen.status, seen.price, seen.refunded) == (job.id, "completed", 5, False)


async def test_a_failing_scene_gives_the_whole_price_back_and_leaves_no_file(wizard, worker):
    scenes = [{"text": "This one is fine."}, {"text": "!fail and this one is not"}]
    await wizard.save(3, {"finalScript": {"scenes": scenes}})
    job = await ended(wizard.db, (await wizard.voice()).id)
    assert (job.status, job.error_code, job.attempt) == ("failed", "voice_refused", 1)
    assert "2" in job.error_detail
    assert await entries(wizard) == [("grant", 100), ("charge", -5), ("refund", 5)]
    assert await queue.artifacts(wizard.db, job_id=job.id, owners=None) == []


async def test_what_is_spoken_is_what_was_paid_whatever_is_written_later(wizard, worker):
    before = await wizard.voice()
    await wizard.save(3, {"finalScript": {"scenes": ["!fail"]}})
    assert (await ended(wizard.db, before.id)).status == "completed"


async def test_a_retry_speaks_the_same_and_is_heard_in_the_project(wizard, worker):
    await wizard.save(3, {"finalScript": {"scenes": ["!slow 60 much too slow"]}})
    slow = await wizard.voice()
    await queue.cancel(wizard.db, job_id=slow.id, owners=[wizard.person], actor="a")
    again = await queue.retry(
        wizard.db, job_id=slow.id, owners=[wizard.person], account_id=wizard.person, key="r"
    )
    end = time.monotonic() + 20
    while True:
        heard = await projects.voicings(
            wizard.db, project_id=wizard.project, family=[wizard.person]
        )
        if {v.job_id for v in heard} == {slow.id, again.id}:
            break
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert (await projects.scenes(wizard.db, project_id=wizard.project, job_id=again.id)) == (
        "",
        ["!slow 60 much too slow"],
    )
    await queue.cancel(wizard.db, job_id=again.id, owners=[wizard.person], actor="a")


async def test_of_a_lost_lease_no_file_stays(wizard, db):
    ordered = await wizard.voice()
    [lease] = await _claim(db)
    await queue.cancel(db, job_id=ordered.id, owners=[wizard.person], actor="a")
    with pytest.raises(errors.LeaseLost):
        async with db.transaction() as connection:
            await queue.keep_file(
                connection, job_id=lease.id, token=lease.token, n=1, name="x", media_type="x",
                data=b"x",
            )  # fmt: skip
    assert await queue.artifacts(db, job_id=ordered.id, owners=None) == []


async def _claim(db) -> list[queue.Lease]:
    return await queue.claim(db, worker="w", kinds=[projects.KIND], limit=1)


async def test_ten_orders_with_one_key_are_one(wizard):
    told = await asyncio.gather(*(wizard.voice("k") for _ in range(10)))
    assert len({one.id for one in told}) == 1
    assert sum(one.replayed for one in told) == 9
    assert await entries(wizard) == [("grant", 100), ("charge", -5)]


async def test_the_price_goes_by_the_words(wizard):
    texts = ["word " * 120, {"text": " ".join(["word"] * 81)}]
    await wizard.save(3, {"finalScript": {"scenes": texts}})
    assert (await wizard.voice()).price == 15


async def test_who_cannot_pay_is_told_and_nothing_happens(wizard, owner):
    poor = wizard.by(wizard.person)
    await ledger.charge(wizard.db, account_id=wizard.person, amount=97, key=str(uuid4()))
    with pytest.raises(errors.InsufficientTokens) as told:
        await poor.voice("k")
    assert told.value.facts == {"needed": 5, "available": 3}
    assert (await wizard.step(4)).status == "EMPTY"
    rows = await (await owner.execute("select count(*) from projects.voicing")).fetchone()
    assert rows == (0,)


async def test_a_member_pays_himself_and_everybody_hears_of_it(wizard):
    member = await wizard.invite()
    ordered = await member.voice()
    assert await entries(wizard) == [("grant", 100)]
    assert await entries(member) == [("grant", 100), ("charge", -5)]
    [seen] = await projects.voicings(wizard.db, project_id=wizard.project, family=[wizard.person])
    assert (seen.job_id, seen.account_id) == (ordered.id, member.person)


@pytest.mark.parametrize(
    ("script", "code", "pointer"),
    [
        (None, "script_missing", None),
        ({}, "script_missing", None),
        ({"scenes": []}, "script_missing", None),
        ({"scenes": "text"}, "script_missing", None),
        ({"scenes": ["a", {"text": " "}]}, "required", "/data/finalScript/scenes/1"),
        ({"scenes": ["a", 5]}, "required", "/data/finalScript/scenes/1"),
        ({"scenes": ["a" * 2501]}, "too_long", "/data/finalScript/scenes/0"),
        ({"scenes": ["a"] * 101}, "too_many", "/data/finalScript/scenes"),
    ],
)
async def test_what_cannot_be_spoken_is_not_paid(wizard, script, code, pointer):
    await wizard.save(3, {} if script is None else {"finalScript": script})
    with pytest.raises(errors.HoldfastError) as told:
        await wizard.voice("k")
    if pointer:
        problem = told.value.facts["errors"][0]
        assert (problem["code"], problem["pointer"]) == (code, pointer)
    else:
        assert told.value.code == code
    assert await entries(wizard) == [("grant", 100)]


async def test_a_replay_answers_before_the_script_is_looked_at(wizard):
    ordered = await wizard.voice("k")
    await wizard.save(3, {})
    assert (await wizard.voice("k")).id == ordered.id
    with pytest.raises(errors.IdempotencyKeyReused):
        await wizard.voice("k", voice="ru")
    with pytest.raises(errors.Invalid):
        await wizard.voice("j", voice="zz")


async def test_ordering_a_voice_makes_the_stage_from_this_script(wizard):
    await wizard.voice()
    assert (await wizard.step(4)).status == "DRAFT"
    await wizard.save(3, {"finalScript": {"scenes": ["another"]}})
    assert (await wizard.step(4)).stale
    await wizard.voice()
    assert not (await wizard.step(4)).stale


async def test_a_finished_story_becomes_the_script(wizard, db):
    await queue.declare_kind(db, queue.Kind("story"))
    [bought] = await queue.submit(
        db, [{"account_id": wizard.person, "kind": "story", "payload": {}, "price": 1, "key": "s"}]
    )
    who = {"project_id": wizard.project, "number": 3, "actor": wizard.person}
    with pytest.raises(errors.WrongStatus):
        await projects.adopt(db, **who, family=[wizard.person], job_id=bought.id)
    [lease] = await queue.claim(db, worker="w", kinds=["story"], limit=1)
    text = "A fox.\n\nIt read " + "the wind, the rain, the snow. " * 100
    await queue.finish(db, job_id=lease.id, token=lease.token, result={"text": text})
    saved = await projects.adopt(db, **who, family=[wizard.person], job_id=bought.id)
    script = saved.step.data["finalScript"]
    assert script["scenes"][0] == {"number": 1, "text": "A fox."}
    assert " ".join(scene["text"] for scene in script["scenes"]).split() == text.split()
    assert all(len(scene["text"]) <= 2500 for scene in script["scenes"])
    assert script["totalWords"] == len(text.split())
    with pytest.raises(errors.Invalid):
        await projects.adopt(db, **who, family=[wizard.person], job_id=uuid4())
