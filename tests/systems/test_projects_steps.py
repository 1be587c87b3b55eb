"""Steps: what stage 3 saved, stage 4 loads; absent, null and "" are three things."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from holdfast import errors
from holdfast.systems import projects
from holdfast.systems.projects import Autosave
from systems.wizard import SCRIPT, Wizard

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
async def wizard(db, owner, new_account) -> Wizard:
    return await Wizard.begin(db, owner, new_account)


async def test_what_stage_3_saved_again_stage_4_loads(wizard):
    first = await wizard.save(3, {"finalScript": {**SCRIPT, "totalWords": 1}})
    second = await wizard.save(3, {"finalScript": SCRIPT})
    assert (first.created, second.created) == (True, False)
    assert (first.step.version, second.step.version) == (1, 2)
    loaded = {step.step_number: step for step in await projects.steps(
        wizard.db, project_id=wizard.project, family=[wizard.person]
    )}  # fmt: skip
    assert loaded[3].data["finalScript"] == SCRIPT
    assert list(loaded) == [1, 2, 3, 4]
    assert (loaded[4].status, loaded[4].version, loaded[4].data) == ("EMPTY", 0, {})


async def test_ten_first_saves_at_once_make_one_row_with_versions_1_to_10(wizard, owner):
    async def one(n: int) -> projects.Saved:
        return await wizard.save(3, {"n": n})

    saved = await asyncio.gather(*map(one, range(10)))
    assert sorted(s.step.version for s in saved) == list(range(1, 11))
    assert sum(s.created for s in saved) == 1
    last = max(saved, key=lambda s: s.step.version)
    assert (await wizard.step(3)).data == last.step.data
    rows = await (await owner.execute("select count(*) from projects.step")).fetchone()
    assert rows == (1,)


async def test_absent_keeps_null_clears_and_empty_is_kept(wizard):
    await wizard.save(1, {"idea": "x"}, completed_at=NOON, skip_reason="")
    again = (await wizard.save(1, {"idea": "y"})).step
    assert (again.status, again.completed_at, again.skip_reason) == ("COMPLETED", NOON, "")
    opened = (await wizard.save(1, {"idea": "z"}, completed_at=None)).step
    assert (opened.status, opened.completed_at, opened.skip_reason) == ("DRAFT", None, "")
    cleared = (await wizard.save(1, skip_reason=None)).step
    assert (cleared.skip_reason, cleared.data) == (None, {"idea": "z"})


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"completed_at": NOON}, "COMPLETED"),
        ({"skip_reason": "no budget"}, "SKIPPED"),
        ({"skip_reason": ""}, "DRAFT"),
        ({"completed_at": NOON, "skip_reason": "both"}, "COMPLETED"),
        ({}, "DRAFT"),
    ],
)
async def test_a_first_save_is_marked_as_sent(wizard, given, status):
    step = (await wizard.save(2, {"notes": "n"}, **given)).step
    assert (step.status, step.version) == (status, 1)


async def test_a_completed_step_that_is_sent_a_reason_goes_by_way_of_a_draft(wizard, owner):
    await wizard.save(2, {"notes": "n"}, completed_at=NOON)
    step = (await wizard.save(2, completed_at=None, skip_reason="after all not")).step
    assert (step.status, step.completed_at) == ("SKIPPED", None)
    moves = await (
        await owner.execute(
            "select action, from_status, to_status from audit.event where entity = 'step'"
            " order by id"
        )
    ).fetchall()
    assert moves == [
        ("projects.save", "EMPTY", "DRAFT"),
        ("projects.complete", "DRAFT", "COMPLETED"),
        ("projects.reopen", "COMPLETED", "DRAFT"),
        ("projects.skip", "DRAFT", "SKIPPED"),
    ]


async def test_saving_a_skipped_step_opens_it_and_a_note_about_it_does_not(wizard):
    await wizard.skip(2, "no time")
    noted = (await wizard.save(2, skip_reason="no money")).step
    assert (noted.status, noted.skip_reason) == ("SKIPPED", "no money")
    assert (await wizard.save(2)).step.status == "SKIPPED"
    saved = (await wizard.save(2, {"notes": "found some"})).step
    assert (saved.status, saved.skip_reason) == ("DRAFT", "no money")
    await wizard.skip(2, "no")
    assert (await wizard.save(2, skip_reason=None)).step.status == "DRAFT"


async def test_create_only_and_the_current_version_only(wizard):
    await wizard.save(3, {"a": 1}, only_new=True)
    with pytest.raises(errors.VersionMismatch) as told:
        await wizard.save(3, {"a": 2}, only_new=True)
    assert told.value.facts == {"version": 1}
    await wizard.save(3, {"a": 2}, if_version=1)
    with pytest.raises(errors.VersionMismatch) as told:
        await wizard.save(3, {"a": 3}, if_version=1)
    assert told.value.facts == {"version": 2}
    assert (await wizard.step(3)).data == {"a": 2}
    assert (await wizard.save(4, {}, if_version=0)).created


async def test_of_ten_editors_with_one_version_one_wins(wizard):
    await wizard.save(3, {"n": -1})
    tried = await asyncio.gather(
        *(wizard.save(3, {"n": n}, if_version=1) for n in range(10)), return_exceptions=True
    )
    won = [one for one in tried if isinstance(one, projects.Saved)]
    assert len(won) == 1
    assert all(isinstance(x, errors.VersionMismatch) for x in tried if x is not won[0])
    assert (await wizard.step(3)).data == won[0].step.data


RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), RFC_7396)
async def test_the_appendix_of_rfc_7396(wizard, original, patch, result):
    await wizard.save(1, {"it": original})
    merged = await wizard.merge(1, {"it": patch})
    assert merged.data == ({} if result is None else {"it": result})
    if isinstance(original, dict) and isinstance(patch, dict):
        await wizard.save(2, original)
        assert (await wizard.merge(2, patch)).data == result


async def test_patches_at_once_are_all_merged(wizard):
    await wizard.save(1, {})
    await asyncio.gather(*(wizard.merge(1, {f"k{n}": n}) for n in range(20)))
    step = await wizard.step(1)
    assert step.data == {f"k{n}": n for n in range(20)}
    assert step.version == 21


def nested(depth: int) -> dict:
    made: dict = {}
    for _ in range(depth - 1):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        ({"a": ["x", "a\0b"]}, "/data/a/1", "nul_character"),
        ({"a\0": 1}, "/data/a\\u0000", "nul_character"),
        ({"a": {"b/c": float("nan")}}, "/data/a/b~1c", "malformed"),
        ({"a": float("inf")}, "/data/a", "malformed"),
        ({"a": 2**63}, "/data/a", "too_big"),
        ({"a": -(2**63) - 1}, "/data/a", "too_small"),
        ({"a": "\ud800"}, "/data/a", "malformed"),
        ({"a": {1: 2}}, "/data/a/1", "malformed"),
        (nested(33), "/data" + "/a" * 32, "too_deep"),
    ],
)
async def test_what_cannot_be_stored_is_told_by_pointer_and_nothing_is(wizard, data, pointer, code):
    with pytest.raises(errors.Invalid) as told:
        await wizard.save(1, data)
    assert (told.value.facts["errors"][0]["pointer"], told.value.facts["errors"][0]["code"]) == (
        pointer,
        code,
    )
    with pytest.raises(errors.Invalid):
        await wizard.merge(1, data)
    assert (await wizard.step(1)).version == 0


async def test_what_lies_just_within_the_limits_is_stored(wizard):
    assert (await wizard.save(1, nested(32))).step.data == nested(32)
    big = {"a": "x" * (524_288 - len('{"a": ""}'))}
    assert (await wizard.save(2, big)).step.data == big
    with pytest.raises(errors.TooLarge) as told:
        await wizard.save(2, {"a": big["a"] + "x"})
    assert told.value.facts == {"most": 524_288}
    with pytest.raises(errors.TooLarge):
        await wizard.merge(2, {"b": 1})
    assert (await wizard.step(2)).version == 1


async def test_a_stranger_finds_nothing_and_a_member_works(wizard, new_account):
    await wizard.save(3, {"finalScript": SCRIPT})
    stranger = wizard.by(await new_account())
    attempts = [
        stranger.step(3), stranger.save(3, {}), stranger.complete(3), stranger.skip(3),
        stranger.accept(3), stranger.keep(3), stranger.revisions(3), stranger.restore(3, 1),
        stranger.voice(), stranger.invite(),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(errors.NotFound):
            await attempt
    member = await wizard.invite()
    assert (await member.save(3, {"finalScript": {}})).step.version == 2
    with pytest.raises(errors.Forbidden):
        await member.invite()
    await projects.remove_member(
        wizard.db, project_id=wizard.project, account_id=member.person, actor=wizard.person,
        family=[wizard.person],
    )  # fmt: skip
    with pytest.raises(errors.NotFound):
        await member.save(3, {})
    assert [r.by for r in await wizard.revisions(3)] == [member.person, wizard.person]


async def test_lists_hold_ones_own_and_what_is_shared(wizard, new_account):
    member = await wizard.invite()
    own = await projects.create(wizard.db, account_id=member.person, title="Another")
    found = await projects.list_of(wizard.db, family=[member.person])
    assert [(p.id, p.seat) for p in found] == [(own.id, "owner"), (wizard.project, "member")]
    rest = await projects.list_of(wizard.db, family=[member.person], before=own.id)
    assert [p.id for p in rest] == [wizard.project]
    assert await projects.list_of(wizard.db, family=[await new_account()]) == []
    whole = await projects.get(wizard.db, project_id=wizard.project, family=[wizard.person])
    assert whole.stages[3]["inputs"] == ["3.finalScript"]


async def test_complete_is_strict_and_points(wizard):
    await wizard.skip(1)
    await wizard.skip(2)
    with pytest.raises(errors.Invalid) as told:
        await wizard.complete(3)
    assert told.value.facts["errors"] == [{"pointer": "/data/finalScript", "code": "required"}]
    await wizard.save(3, {"finalScript": {"scenes": [{"text": 1}, 2], "totalWords": "many"}})
    with pytest.raises(errors.Invalid) as told:
        await wizard.complete(3)
    assert [(p["pointer"], p["code"]) for p in told.value.facts["errors"]] == [
        ("/data/finalScript/scenes/0/text", "wrong_type"),
        ("/data/finalScript/scenes/1", "wrong_type"),
        ("/data/finalScript/totalWords", "wrong_type"),
    ]
    await wizard.save(3, {"finalScript": SCRIPT})
    done = await wizard.complete(3)
    again = await wizard.complete(3)
    assert (done.status, again.completed_at) == ("COMPLETED", done.completed_at)
    assert again.version == done.version
    edited = (await wizard.save(3, {"finalScript": SCRIPT, "note": "x"})).step
    assert (edited.status, edited.completed_at) == ("COMPLETED", done.completed_at)


async def test_complete_waits_for_the_required_stages_before(wizard):
    await wizard.save(3, {"finalScript": SCRIPT})
    with pytest.raises(errors.StepLocked) as told:
        await wizard.complete(3)
    assert [m["stepNumber"] for m in told.value.facts["missing"]] == [1, 2]
    await wizard.save(1, {"idea": "a fox"})
    await wizard.complete(1)
    await wizard.skip(2)
    assert (await wizard.complete(3)).status == "COMPLETED"


async def test_data_that_changes_while_it_is_checked_is_checked_again(wizard, monkeypatch):
    await wizard.skip(1)
    await wizard.skip(2)
    await wizard.save(3, {"finalScript": SCRIPT})
    check, seen = projects.steps.__globals__["require_complete"], []

    def meanwhile(data, schema):
        seen.append(data)
        check(data, schema)

    monkeypatch.setitem(projects.steps.__globals__, "require_complete", meanwhile)
    real = projects.complete.__globals__["call_one"]

    async def late(db, sql, args):
        if len(seen) == 1 and "projects.complete" in sql:
            await wizard.save(3, {"finalScript": "no script any more"})
        return await real(db, sql, args)

    monkeypatch.setitem(projects.complete.__globals__, "call_one", late)
    with pytest.raises(errors.Invalid):
        await wizard.complete(3)
    assert len(seen) == 2
    assert (await wizard.step(3)).status == "DRAFT"


async def test_skip_wants_a_reason_and_nothing_completed(wizard):
    with pytest.raises(errors.Invalid):
        await wizard.skip(1, "  ")
    await wizard.save(1, {"idea": "x"})
    await wizard.complete(1)
    with pytest.raises(errors.WrongStatus):
        await wizard.skip(1)
    skipped = await wizard.skip(2, "known already")
    assert (await wizard.skip(2, "known already")).version == skipped.version
    with pytest.raises(errors.WrongStatus):
        await wizard.complete(2)


async def test_stages_that_the_template_does_not_have(wizard):
    for number in (0, 5, 32_768, 2**40):
        with pytest.raises(errors.NotFound):
            await wizard.save(number, {})
    with pytest.raises(errors.Invalid):
        await projects.create(wizard.db, account_id=wizard.person, title="x", template="opera")


async def test_a_late_autosave_changes_nothing(wizard):
    a = str(uuid4())
    await wizard.save(1, {"idea": "a fox r"}, autosave=Autosave(a, 1))
    newest = await wizard.save(1, {"idea": "a fox reads"}, autosave=Autosave(a, 3))
    late = await wizard.save(1, {"idea": "a fox re"}, autosave=Autosave(a, 2))
    again = await wizard.save(1, {"idea": "zzz"}, autosave=Autosave(a, 3), if_version=1)
    assert late.late
    assert again.late
    assert late.step == again.step == newest.step
    other = await wizard.save(1, {"idea": "a hare"}, autosave=Autosave("another tab", 1))
    assert not other.late
    with pytest.raises(errors.VersionMismatch):  # and what was refused may be sent again
        await wizard.save(1, {"idea": "q"}, autosave=Autosave(a, 4), if_version=2)
    assert not (await wizard.save(1, {"idea": "q"}, autosave=Autosave(a, 4))).late


async def test_autosaves_in_any_order_leave_the_last_one(wizard):
    order = [5, 1, 4, 2, 6, 3]
    await asyncio.gather(*(wizard.save(1, {"n": n}, autosave=Autosave("tab", n)) for n in order))
    assert (await wizard.step(1)).data == {"n": 6}


async def test_a_project_is_made_once_per_key(wizard):
    made = await asyncio.gather(
        *(projects.create(wizard.db, account_id=wizard.person, title="K", key="k") for _ in "12345")
    )
    assert len({one.id for one in made}) == 1
    assert sum(one.replayed for one in made) == 4
    with pytest.raises(errors.IdempotencyKeyReused):
        await projects.create(wizard.db, account_id=wizard.person, title="Other", key="k")
