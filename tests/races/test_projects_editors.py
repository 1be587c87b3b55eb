"""Concurrent editors against a plain model: whatever they do at once, what stands is explained.

Each rule lets several people act on one project at the same moment, over real connections. The
database decides an order; the versions it hands out tell which, and the model follows it.
"""

import asyncio

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from holdfast import errors
from holdfast.kernel import queue, verify
from holdfast.postgres.pool import Database
from holdfast.systems import projects
from systems.wizard import Wizard

NUMBERS = st.integers(1, 4)
TEXT = st.sampled_from(["", "fox", "hare"])
SCRIPTS = st.fixed_dictionaries({"scenes": st.lists(st.sampled_from(["a", "b"]), max_size=2)})
DATA = {
    1: st.dictionaries(st.sampled_from(["idea", "x"]), TEXT, max_size=2),
    2: st.dictionaries(st.sampled_from(["notes", "x"]), TEXT, max_size=2),
    3: st.dictionaries(st.just("finalScript"), SCRIPTS, max_size=1),
    4: st.fixed_dictionaries({"voice": st.just("en")}, optional={"script": SCRIPTS}),
}
INPUTS = {2: (1, "idea"), 3: (2, "notes"), 4: (3, "finalScript")}
ABSENT = object()
EMPTY = {"data": {}, "status": "EMPTY", "version": 0, "basis": ABSENT, "kept": ABSENT}


def merged(target, patch):
    """RFC 7396, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


class Editors(RuleBasedStateMachine):
    """Two people and one project."""

    loop: asyncio.AbstractEventLoop
    open: object  # makes (wizard, member) on a fresh project

    def __init__(self) -> None:
        super().__init__()
        self.owner, self.member = self.run(type(self).open())
        self.steps = {number: dict(EMPTY) for number in range(1, 5)}

    def run(self, work):
        return self.loop.run_until_complete(work)

    def at_once(self, *work):
        async def together():
            return await asyncio.gather(*work, return_exceptions=True)

        found = self.run(together())
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, errors.Refusal):
                raise one
        return found

    def input_of(self, number):
        if number not in INPUTS:
            return None
        source, path = INPUTS[number]
        return self.steps[source]["data"].get(path)

    def wrote(self, number, data, status):
        step = self.steps[number]
        step.update(data=data, status=status, version=step["version"] + 1)
        if status == "SKIPPED":
            step.update(basis=ABSENT, kept=ABSENT)
        elif step["basis"] is ABSENT:
            step.update(basis=self.input_of(number), kept=ABSENT)

    def stale(self, number):
        step = self.steps[number]
        if step["basis"] is ABSENT:
            return False
        now = self.input_of(number)
        return now != step["basis"] and (step["kept"] is ABSENT or now != step["kept"])

    def status_of_save(self, number):
        return "COMPLETED" if self.steps[number]["status"] == "COMPLETED" else "DRAFT"

    @rule(number=NUMBERS, inputs=st.data())
    def both_save(self, number, inputs):
        sent = [inputs.draw(DATA[number]) for _ in "12"]
        told = self.at_once(self.owner.save(number, sent[0]), self.member.save(number, sent[1]))
        for _, data in sorted((saved.step.version, sent[n]) for n, saved in enumerate(told)):
            self.wrote(number, data, self.status_of_save(number))

    @rule(number=NUMBERS, inputs=st.data())
    def both_save_upon_one_version(self, number, inputs):
        sent = [inputs.draw(DATA[number]) for _ in "12"]
        version = self.steps[number]["version"]
        told = self.at_once(
            self.owner.save(number, sent[0], if_version=version),
            self.member.save(number, sent[1], if_version=version),
        )
        won = [n for n, one in enumerate(told) if isinstance(one, projects.Saved)]
        assert len(won) == 1
        assert isinstance(told[1 - won[0]], errors.VersionMismatch)
        self.wrote(number, sent[won[0]], self.status_of_save(number))

    @rule(number=NUMBERS, keys=st.tuples(TEXT, TEXT))
    def both_merge(self, number, keys):
        told = self.at_once(
            self.owner.merge(number, {"x": keys[0] or None}),
            self.member.merge(number, {"y": keys[1] or None}),
        )
        patches = [{"x": keys[0] or None}, {"y": keys[1] or None}]
        for _, n in sorted((step.version, n) for n, step in enumerate(told)):
            now = merged(self.steps[number]["data"], patches[n])
            self.wrote(number, now, self.status_of_save(number))

    @rule(number=NUMBERS)
    def both_complete(self, number):
        earlier = [self.steps[n]["status"] in ("COMPLETED", "SKIPPED") for n in range(1, number)]
        step, data = self.steps[number], self.steps[number]["data"]
        strict = {
            1: bool(data.get("idea")), 2: bool(data.get("notes")),
            3: bool((data.get("finalScript") or {}).get("scenes")), 4: True,
        }[number]  # fmt: skip
        told = self.at_once(self.owner.complete(number), self.member.complete(number))
        can = strict and all(earlier) and step["status"] in ("DRAFT", "COMPLETED")
        assert [isinstance(one, projects.Step) for one in told] == [can, can], told
        if can:
            assert told[0].completed_at == told[1].completed_at
            if step["status"] == "DRAFT":
                self.wrote(number, step["data"], "COMPLETED")

    @rule(number=NUMBERS)
    def both_skip(self, number):
        step = self.steps[number]
        told = self.at_once(self.owner.skip(number), self.member.skip(number))
        can = step["status"] != "COMPLETED"
        assert [isinstance(one, projects.Step) for one in told] == [can, can]
        if can and step["status"] != "SKIPPED":
            self.wrote(number, step["data"], "SKIPPED")

    @rule(number=NUMBERS)
    def reopen(self, number):
        status = self.steps[number]["status"]
        self.run(self.owner.save(number, completed_at=None))
        kept = "SKIPPED" if status == "SKIPPED" else "DRAFT"
        self.wrote(number, self.steps[number]["data"], kept)

    @rule(number=st.sampled_from([2, 3, 4]), answer=st.sampled_from(["accept", "keep"]))
    def both_answer(self, number, answer):
        stale, now = self.stale(number), self.input_of(number)
        self.at_once(getattr(self.owner, answer)(number), getattr(self.member, answer)(number))
        step = self.steps[number]
        if not stale:
            return
        if answer == "keep":
            step["kept"] = now
            return
        step.update(basis=now, kept=ABSENT)
        data = step["data"]
        if number == 4 and "script" in data:
            fresh = {k: v for k, v in data.items() if k != "script"}
            fresh |= {} if now is None else {"script": now}
            if fresh != data:
                self.wrote(number, fresh, step["status"])

    @rule(number=NUMBERS)
    def restore_the_first(self, number):
        step = self.steps[number]
        if step["version"] == 0:
            return
        oldest = self.run(self.owner.revisions(number, limit=200))[-1]
        self.run(self.member.restore(number, oldest.version))
        self.wrote(number, oldest.data, self.status_of_save(number))

    @invariant()
    def what_stands_is_what_the_model_says(self):
        found = self.run(
            projects.steps(self.owner.db, project_id=self.owner.project, family=[self.owner.person])
        )
        for step in found:
            model = self.steps[step.step_number]
            assert (step.data, step.status, step.version) == (
                model["data"], model["status"], model["version"],
            )  # fmt: skip
            assert step.stale == self.stale(step.step_number), step

    def teardown(self):
        for one in self.run(verify.run(self.owner.db)):
            assert one.violations == 0, one


def test_concurrent_editors(app_url, owner_url):
    async def begin(db: Database, owner: psycopg.AsyncConnection):
        async def new_account():
            cursor = await owner.execute(
                "insert into accounts.account (bucket, id) select kernel.bucket_of(made), made"
                " from kernel.new_id((random() * 255)::int::smallint) made returning id"
            )
            return (await cursor.fetchone())[0]

        wizard = await Wizard.begin(db, owner, new_account)
        return wizard, await wizard.invite()

    with asyncio.Runner() as runner:
        db = runner.run(Database.open(app_url))
        owner = runner.run(psycopg.AsyncConnection.connect(owner_url, autocommit=True))
        runner.run(queue.declare_kind(db, queue.Kind(projects.KIND)))
        try:
            Editors.loop = runner.get_loop()
            Editors.open = staticmethod(lambda: begin(db, owner))
            run_state_machine_as_test(
                Editors,
                settings=settings(
                    max_examples=15, stateful_step_count=20, deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )  # fmt: skip
        finally:
            runner.run(owner.close())
            runner.run(db.close())
