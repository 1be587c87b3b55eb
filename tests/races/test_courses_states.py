"""Every verb in any order, with publishes in between and two clients, against a plain model."""

import asyncio
import json

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from courses_content import document
from holdfast.errors import Refusal
from holdfast.kernel import verify
from holdfast.postgres.call import run_sync
from holdfast.systems import courses

KEYS = list("abcdefg")
FINISHED = {"COMPLETED", "SKIPPED"}


@st.composite
def contents(draw):
    """A course: days of keys, each maybe optional, maybe needing earlier ones."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True))
    cuts = draw(st.lists(st.integers(0, 2), min_size=len(keys), max_size=len(keys)))
    days, placed = [], []
    for key, cut in zip(keys, cuts, strict=True):
        if not days or cut == 0:
            days.append([])
        more = {}
        if days[-1] and draw(st.booleans()):
            more["required"] = False
        if placed and draw(st.integers(0, 3)) == 0:
            named = draw(st.lists(st.sampled_from(placed), min_size=1, max_size=2, unique=True))
            more["needs"] = {draw(st.sampled_from(["all", "any"])): named}
        days[-1].append((key, more))
        placed.append(key)
    flow = draw(st.sampled_from(["linear", "free"]))
    return document("c", *days, flow=flow)


class Plain:
    """What a course is, without a database: dictionaries, and loops that count."""

    def __init__(self, content):
        self.begin(content)

    def begin(self, content):
        self.content = content
        self.status = dict.fromkeys(self.keys(), "NOT_STARTED")
        self.optional = set()  # by a move into a finished day
        self.finished_days = set()
        self.started = False
        self.over = False

    def keys(self):
        return [s["key"] for d in self.content["days"] for s in d["steps"]]

    def required(self, step):
        return step.get("required", True) and step["key"] not in self.optional

    def done(self, key):
        return self.status[key] in FINISHED

    def missing(self, key):
        steps = [s for d in self.content["days"] for s in d["steps"]]
        place = self.keys().index(key)
        first = []
        if self.content["flow"] == "linear":
            first = [
                s["key"] for s in steps[:place] if self.required(s) and not self.done(s["key"])
            ]
        ((how, named),) = steps[place].get("needs", {"all": []}).items()
        open_ones = [k for k in self.keys() if k in named and not self.done(k)]
        if how == "any" and len(open_ones) < len(named):
            open_ones = []
        return first + open_ones

    def act(self, verb, key):
        """Return the code, and move what moves."""
        to = {"start": "IN_PROGRESS", "complete": "COMPLETED", "skip": "SKIPPED"}[verb]
        if key not in self.keys():
            return "not_found"
        if self.done(key):
            return "ok" if to in (self.status[key], "IN_PROGRESS") else "step_finished"
        if self.status[key] == to:
            return "ok"
        if self.missing(key):
            return "step_locked"
        self.status[key] = to
        self.started = True
        self.settle()
        return "ok"

    def settle(self):
        for day in self.content["days"]:
            if all(self.done(s["key"]) for s in day["steps"] if self.required(s)):
                self.finished_days.add(day["key"])
        self.over = {d["key"] for d in self.content["days"]} <= self.finished_days

    def move(self, content):
        if self.over or content == self.content:  # there already: nothing is counted again
            return
        self.content = content
        self.optional = set()
        for day in content["days"]:
            for step in day["steps"]:
                known = self.status.setdefault(step["key"], "NOT_STARTED")
                if day["key"] in self.finished_days and known not in FINISHED:
                    self.optional.add(step["key"])
        self.settle()

    def seen(self):
        count = [s for d in self.content["days"] for s in d["steps"] if self.required(s)]
        done = sum(self.done(s["key"]) for s in count)
        percent = 100 if self.over else min(99, 100 * done // len(count)) if count else 0
        return {
            "over": self.over,
            "percent": percent,
            "finished": [d["key"] in self.finished_days for d in self.content["days"]],
            "steps": {key: self.status[key] for key in self.keys()},
        }


class Courses(RuleBasedStateMachine):
    """Two clients of one person. `links` (set by the test): their connections, and the owner's."""

    links = None
    runs = 0

    @initialize(content=contents())
    def begin(self, content):
        self.one, self.two, self.owner = self.links
        type(self).runs += 1
        self.slug = f"c{self.runs}"
        self.newest = self.publish_content(content)
        self.account = self.owner.execute(
            "insert into accounts.account (bucket, id) select kernel.bucket_of(made), made"
            " from kernel.new_id(7::smallint) made returning id"
        ).fetchone()["id"]
        made = courses.enrol(self.one, account_id=self.account, slug=self.slug, actor="model")
        self.id = run_sync(made).id
        self.model = Plain(self.newest)
        self.attempts = 1
        self.ids = {}  # of steps, also of attempts and versions that are gone

    def publish_content(self, content):
        content = {**content, "slug": self.slug}
        run_sync(courses.publish(self.one, courses.parse(json.dumps(content)), actor="model"))
        return content

    @property
    def who(self):
        return {"enrolment_id": self.id, "owners": [self.account], "actor": "model"}

    def look(self):
        return run_sync(courses.get(self.one, enrolment_id=self.id, owners=[self.account]))

    def step_id(self, key):
        found = {s["title"]: s["id"] for d in self.look().days for s in d["steps"]}
        return found.get(key)

    def act(self, client, verb, key, step_id):
        called = getattr(courses, f"{verb}_step")
        more = {"reason": "r"} if verb == "skip" else {}
        try:
            run_sync(called(client, step_id=step_id, **self.who, **more))
        except Refusal as refused:
            missing = refused.facts.get("missing", [])
            return refused.code, sorted(m["title"] for m in missing)
        return "ok", []

    @rule(
        verb=st.sampled_from(["start", "complete", "complete", "skip"]),
        key=st.sampled_from(KEYS),
        second=st.booleans(),
    )
    def one_client(self, verb, key, second):
        step_id = self.step_id(key)
        if step_id is None:
            return
        missing = sorted(set(self.model.missing(key)))
        code, named = self.act(self.two if second else self.one, verb, key, step_id)
        assert code == self.model.act(verb, key)
        if code == "step_locked":
            assert sorted(set(named)) == missing

    @rule(
        verbs=st.tuples(*[st.sampled_from(["start", "complete", "skip"])] * 2),
        keys=st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)),
    )
    def two_clients_at_once(self, verbs, keys):
        """The second begins while the first's transaction is open, and waits for it."""
        ids = [self.step_id(key) for key in keys]
        if None in ids:
            return
        asyncio.run(self._at_once(verbs, keys, ids))

    async def _at_once(self, verbs, keys, ids):
        self.one.execute("begin")
        first = self.act(self.one, verbs[0], keys[0], ids[0])[0]
        second = asyncio.get_running_loop().run_in_executor(
            None, self.act, self.two, verbs[1], keys[1], ids[1]
        )
        waiting = "select count(*) as n from pg_stat_activity where pid = %s and state = 'active'"
        waiting += " and wait_event_type = 'Lock'"
        while not second.done():
            if self.owner.execute(waiting, [self.two.info.backend_pid]).fetchone()["n"]:
                break
            await asyncio.sleep(0.001)
        assert not second.done(), "the enrolment's row is locked first"
        self.one.execute("commit")
        assert first == self.model.act(verbs[0], keys[0])
        assert (await second)[0] == self.model.act(verbs[1], keys[1])

    @rule(content=contents())
    def publish(self, content):
        before = self.look()
        self.newest = self.publish_content(content)
        after = self.look()
        assert (after.days, after.status, after.version) == (
            before.days,
            before.status,
            before.version,
        )

    @rule()
    def move(self):
        told = run_sync(courses.move(self.one, **self.who, rehearsal=True))
        assert run_sync(courses.move(self.two, **self.who)) == told
        self.model.move(self.newest)

    @rule()
    def restart(self):
        self.attempts += self.model.started
        assert run_sync(courses.restart(self.one, **self.who)) == self.attempts
        if self.model.started:
            self.model.begin(self.newest)

    @invariant()
    def equals_the_model(self):
        seen = self.look()
        want = self.model.seen()
        assert want == {
            "over": seen.status == "COMPLETED",
            "percent": seen.percent,
            "finished": [d["status"] == "COMPLETED" for d in seen.days],
            "steps": {s["title"]: s["status"] for d in seen.days for s in d["steps"]},
        }

    @invariant()
    def keeps_every_promise(self):
        broken = [i for i in run_sync(verify.run(self.one)) if i.violations]
        assert broken == []

    @invariant()
    def tells_everything_once(self):
        finished = self.owner.execute(
            "select count(*) as n from courses.day d where status = 'COMPLETED'"
            " and enrolment_id = %s",
            [self.id],
        ).fetchone()["n"]
        told = self.owner.execute(
            "select count(*) as n from outbox.effect"
            " where topic = 'courses.day_finished' and stream = %s",
            [self.account],
        ).fetchone()
        assert told["n"] == finished


def test_every_verb_in_any_order(app_url, owner_url):
    with (
        psycopg.connect(app_url, autocommit=True, row_factory=dict_row) as one,
        psycopg.connect(app_url, autocommit=True, row_factory=dict_row) as two,
        psycopg.connect(owner_url, autocommit=True, row_factory=dict_row) as owner,
    ):
        Courses.links = (one, two, owner)
        run_state_machine_as_test(
            Courses,
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
