"""Staleness, its two answers, and what is kept of the past."""

import asyncio
import copy

import pytest

from holdfast import errors
from holdfast.systems import projects
from holdfast.systems.projects import Autosave
from systems.wizard import SCRIPT, Wizard


@pytest.fixture
async def wizard(db, owner, new_account) -> Wizard:
    made = await Wizard.begin(db, owner, new_account)
    await made.save(3, {"finalScript": SCRIPT, "note": "first"})
    await made.save(4, {"voice": "en", "script": SCRIPT})
    return made


def reworded(word: str) -> dict:
    script = copy.deepcopy(SCRIPT)
    script["scenes"][1]["text"] = word
    return script


async def test_other_key_order_and_white_space_do_not_make_it_stale(wizard, owner):
    turned = dict(reversed(SCRIPT.items()))
    turned["scenes"] = [dict(reversed(scene.items())) for scene in SCRIPT["scenes"]]
    await wizard.save(3, {"note": "first", "finalScript": turned})
    assert not (await wizard.step(4)).stale


async def test_a_word_outside_the_used_path_does_not(wizard):
    await wizard.save(3, {"finalScript": SCRIPT, "note": "second", "more": [1, 2]})
    assert not (await wizard.step(4)).stale


async def test_a_word_in_the_used_path_does_and_the_data_stays(wizard):
    before = await wizard.step(4)
    await wizard.save(3, {"finalScript": reworded("It read the rain first.")})
    after = await wizard.step(4)
    assert after.stale
    assert (after.data, after.version, after.status) == (before.data, before.version, "DRAFT")
    assert after.changes == (
        projects.Change(
            input="3.finalScript",
            pointer="/scenes/1/text",
            kind="changed",
            was="It read the wind first.",
            now="It read the rain first.",
        ),
    )


async def test_what_changes_back_is_fresh_again(wizard):
    await wizard.save(3, {"finalScript": reworded("x")})
    await wizard.save(3, {"finalScript": SCRIPT})
    assert not (await wizard.step(4)).stale


async def test_typing_in_a_stale_step_does_not_answer_for_the_person(wizard):
    await wizard.save(3, {"finalScript": reworded("x")})
    assert (await wizard.save(4, {"voice": "en-us"})).step.stale


async def test_an_input_that_is_gone_or_new_is_told(wizard):
    await wizard.save(3, {"note": "start again"})
    gone = await wizard.step(4)
    assert [(c.kind, c.pointer, c.now) for c in gone.changes] == [("removed", "", None)]
    await wizard.save(2, {"notes": "n"})  # stage 3 was made when there were none
    assert [c.kind for c in (await wizard.step(3)).changes] == ["added"]


async def test_accept_takes_the_new_into_the_copy_and_keeps_the_rest(wizard):
    new = reworded("It read the snow first.")
    await wizard.save(3, {"finalScript": new})
    taken = await wizard.accept(4)
    assert (taken.stale, taken.version) == (False, 2)
    assert taken.data == {"voice": "en", "script": new}
    assert (await wizard.accept(4)).version == 2
    assert (await wizard.restore(4, 1)).data["script"] == SCRIPT


async def test_accept_of_a_step_without_a_copy_changes_no_data(wizard):
    await wizard.save(4, {"voice": "en"})
    await wizard.save(3, {"finalScript": reworded("x")})
    taken = await wizard.accept(4)
    assert (taken.stale, taken.version, taken.data) == (False, 2, {"voice": "en"})


async def test_keep_lasts_until_the_input_changes_once_more(wizard):
    await wizard.save(3, {"finalScript": reworded("x")})
    kept = await wizard.keep(4)
    assert (kept.stale, kept.data["script"]) == (False, SCRIPT)
    await wizard.save(3, {"finalScript": reworded("x"), "note": "z"})
    assert not (await wizard.step(4)).stale
    await wizard.save(3, {"finalScript": reworded("y")})
    again = await wizard.step(4)
    assert again.stale
    assert [(c.was, c.now) for c in again.changes] == [("It read the wind first.", "y")]


async def test_a_skipped_step_is_never_stale(wizard):
    await wizard.save(3, {"finalScript": reworded("x")})
    assert not (await wizard.skip(4)).stale
    await wizard.save(3, {"finalScript": reworded("y")})
    assert not (await wizard.step(4)).stale
    assert not (await wizard.save(4, {"voice": "en"})).step.stale  # made from what is there now


async def test_a_completed_step_becomes_stale_and_stays_completed(wizard):
    for number in (1, 2):
        await wizard.skip(number)
    await wizard.complete(3)
    await wizard.complete(4)
    await wizard.save(3, {"finalScript": reworded("x")})
    step = await wizard.step(4)
    assert (step.status, step.stale) == ("COMPLETED", True)
    assert (await wizard.accept(4)).status == "COMPLETED"


async def test_a_race_of_writing_above_and_below_leaves_a_true_mark(wizard):
    for n in range(5):
        script = reworded(f"round {n}")
        await asyncio.gather(
            wizard.save(3, {"finalScript": script}), wizard.save(4, {"n": n}), wizard.accept(4)
        )
        stale = (await wizard.step(4)).stale
        if stale:
            await wizard.accept(4)
        assert not (await wizard.step(4)).stale
        assert (await wizard.save(3, {"finalScript": script})).step.version
        assert not (await wizard.step(4)).stale


async def test_revisions_say_what_who_and_when_and_come_back(wizard):
    member = await wizard.invite()
    await member.save(4, {"voice": "ru"})
    newest, first = await wizard.revisions(4)
    assert (newest.version, newest.by, newest.data) == (2, member.person, {"voice": "ru"})
    assert (first.version, first.by) == (1, wizard.person)
    assert first.at < newest.at
    back = await wizard.restore(4, 1)
    assert (back.version, back.data) == (3, {"voice": "en", "script": SCRIPT})
    assert [r.version for r in await wizard.revisions(4, before=3, limit=1)] == [2]
    with pytest.raises(errors.NotFound):
        await wizard.restore(4, 9)
    with pytest.raises(errors.VersionMismatch):
        await wizard.restore(4, 1, if_version=2)
    assert await wizard.revisions(1) == []
    with pytest.raises(errors.NotFound):
        await wizard.revisions(9)


async def test_history_is_bounded_and_autosaves_go_first(wizard, owner):
    await owner.execute("update kernel.setting set value = '10' where name = 'step_revisions'")
    await wizard.save(1, {"idea": "decided"})
    for n in range(30):
        await wizard.save(1, {"n": n}, autosave=Autosave("tab", n))
    kept = [r.version for r in await wizard.revisions(1)]
    assert len(kept) == 10
    assert kept[0] == 31
    assert kept[-1] == 1, "what was decided outlives what was typed on the way"
    for n in range(30):
        await wizard.save(1, {"n": n})
    assert [r.version for r in await wizard.revisions(1)] == list(range(61, 51, -1))


async def test_erasing_an_account_takes_its_projects_and_what_hangs_on_them(wizard, owner):
    member = await wizard.invite()
    await projects.create(wizard.db, account_id=member.person, title="His own")
    rows = await owner.execute("select * from projects._belongings(%s)", [[wizard.person]])
    assert await rows.fetchall() == [("projects", 1)]
    await owner.execute("select projects._forget_person(%s, kernel.now())", [[wizard.person]])
    for table in ("step", "revision", "basis", "member"):
        query = {"step": "select count(*) from projects.step",
                 "revision": "select count(*) from projects.revision",
                 "basis": "select count(*) from projects.basis",
                 "member": "select count(*) from projects.member"}[table]  # fmt: skip
        assert await (await owner.execute(query)).fetchone() == (0,), table
    assert len(await projects.list_of(wizard.db, family=[member.person])) == 1
