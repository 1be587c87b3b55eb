"""Courses for tests: small documents, people who take them, and the clock they live by."""

import json
from datetime import UTC, datetime

from holdfast.kernel import verify
from holdfast.systems import courses


def document(slug="c", *days, flow="linear", remind_at="18:00"):
    """Make a document of days, each a list of step keys or of (key, {more})."""
    made = {"slug": slug, "flow": flow, "title": {"en": slug.title()}, "remindAt": remind_at}
    made["days"] = [
        {
            "key": f"day-{number}",
            "steps": [
                {"key": step, "title": step}
                if isinstance(step, str)
                else {"key": step[0], "title": step[0], **step[1]}
                for step in steps
            ],
        }
        for number, steps in enumerate(days, 1)
    ]
    return made


async def publish(db, *arguments, **more):
    """Publish a test's document as a file would be; returns what publishing did."""
    made = document(*arguments, **more)
    return await courses.publish(db, courses.parse(json.dumps(made)), actor="test")


class Learner:
    """A person in one course, as a client sees it: steps by their key."""

    def __init__(self, db, account, enrolment_id):
        self.db, self.account, self.id = db, account, enrolment_id

    @classmethod
    async def enrol(cls, db, account, slug="c"):
        made = await courses.enrol(db, account_id=account, slug=slug, actor=str(account))
        return cls(db, account, made.id)

    @property
    def who(self):
        return {"enrolment_id": self.id, "owners": [self.account], "actor": str(self.account)}

    async def see(self, **more):
        return await courses.get(self.db, enrolment_id=self.id, owners=[self.account], **more)

    async def steps(self):
        """Return {title: step}; titles are keys in a test's document."""
        return {step["title"]: step for day in (await self.see()).days for step in day["steps"]}

    async def step(self, key):
        return (await self.steps())[key]

    async def start(self, key):
        step = await self.step(key)
        return await courses.start_step(self.db, step_id=step["id"], **self.who)

    async def complete(self, key):
        step = await self.step(key)
        return await courses.complete_step(self.db, step_id=step["id"], **self.who)

    async def skip(self, key, reason="no time"):
        step = await self.step(key)
        return await courses.skip_step(self.db, step_id=step["id"], reason=reason, **self.who)

    async def restart(self):
        return await courses.restart(self.db, **self.who)

    async def move(self, **more):
        return await courses.move(self.db, **self.who, **more)


async def at(owner, when):
    """Set the database's clock: `when` is an ISO time, in UTC unless it says otherwise."""
    moment = datetime.fromisoformat(when)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    await owner.execute("update kernel.clock set shift = %s - clock_timestamp()", [moment])


async def effects(owner, account, topic="courses.%"):
    """Return (topic, payload) of a person's effects, in order."""
    cursor = await owner.execute(
        "select topic, payload from outbox.effect where stream = %s and topic like %s order by seq",
        [account, topic],
    )
    return await cursor.fetchall()


async def sound(db):
    """Check every promise of this installation; those of the courses were really looked at."""
    found = await verify.run(db)
    assert [one for one in found if one.violations] == []
    assert all(one.checked for one in found if one.name == "courses.enrolments")
