"""What the tests of projects share: a project, its people, and the seed's own bodies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg

from holdfast.postgres.pool import Database
from holdfast.systems import projects
from holdfast.systems.projects import Saved, Step

MakeAccount = Callable[[], Awaitable[UUID]]

SCRIPT = {
    "scenes": [
        {"number": 1, "text": "A fox learned to read."},
        {"number": 2, "text": "It read the wind first."},
    ],
    "selectedVariants": {"1": "b", "2": "a"},
    "totalWords": 150,
    "duration": 60,
}


@dataclass
class Wizard:
    """One project seen by one of its people, through the public verbs."""

    db: Database
    owner: psycopg.AsyncConnection[Any]
    new_account: MakeAccount
    person: UUID
    project: UUID

    @classmethod
    async def begin(cls, db, owner, new_account) -> Wizard:
        person = await new_account()
        made = await projects.create(db, account_id=person, title="A film about a fox")
        return cls(db, owner, new_account, person, made.id)

    def by(self, somebody: UUID) -> Wizard:
        """The same project as another person meets it."""
        return Wizard(self.db, self.owner, self.new_account, somebody, self.project)

    @property
    def _who(self) -> dict[str, Any]:
        return {"project_id": self.project, "actor": self.person, "family": [self.person]}

    async def save(self, number: int, data: Any = projects.UNSET, **given: Any) -> Saved:
        return await projects.save(self.db, **self._who, number=number, data=data, **given)

    async def merge(self, number: int, patch: Any, **given: Any) -> Step:
        return (await self.save(number, patch, merge=True, **given)).step

    async def step(self, number: int) -> Step:
        return await projects.step(
            self.db, project_id=self.project, number=number, family=[self.person]
        )

    async def complete(self, number: int, **given: Any) -> Step:
        return await projects.complete(self.db, **self._who, number=number, **given)

    async def skip(self, number: int, reason: str = "not for this film", **given: Any) -> Step:
        return await projects.skip(self.db, **self._who, number=number, reason=reason, **given)

    async def accept(self, number: int, **given: Any) -> Step:
        return await projects.accept(self.db, **self._who, number=number, **given)

    async def keep(self, number: int, **given: Any) -> Step:
        return await projects.keep(self.db, **self._who, number=number, **given)

    async def restore(self, number: int, version: int, **given: Any) -> Step:
        return await projects.restore(self.db, **self._who, number=number, version=version, **given)

    async def revisions(self, number: int, **given: Any) -> list[projects.Revision]:
        return await projects.revisions(
            self.db, project_id=self.project, number=number, family=[self.person], **given
        )

    async def voice(self, key: str | None = None, **given: Any):
        return await projects.voice(
            self.db, **self._who, number=4, key=key or str(uuid4()), **given
        )

    async def invite(self) -> Wizard:
        """Somebody new, who may write here too."""
        friend = await self.new_account()
        await projects.add_member(self.db, **self._who, account_id=friend)
        return self.by(friend)
