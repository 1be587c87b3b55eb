"""Content: what there is to learn, published in versions that never change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from uuid import UUID

import structlog
from psycopg.types.json import Jsonb

from holdfast.messages import DEFAULT
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.courses.document import faulty, parse

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What publishing did (or would do, in a rehearsal).

    `touched` counts unfinished enrolments that stay in other versions; `finishing` those of them
    whose present work the new version would call finished as soon as they move.
    """

    slug: str
    version: int
    created: bool
    steps_added: int
    steps_removed: int
    touched: int
    finishing: int


@dataclass(frozen=True, slots=True)
class CourseSummary:
    """One course in the list; `days` and `steps` are counts."""

    slug: str
    version: int
    title: str
    about: str | None
    flow: str
    days: int
    steps: int
    enrolment_id: UUID | None


async def publish(
    db: Handle, document: Mapping[str, Any], *, actor: str, rehearsal: bool = False
) -> Published:
    """Publish a complete document (see `read`, `parse`) as the next version of its course.

    The same document again changes nothing (`created` is false). A rehearsal leaves nothing.
    Enrolments stay in their version until they move. Raises Invalid, with pointers.
    """
    row = await call_one(
        db,
        """select * from courses.publish(document => %(document)s, actor => %(actor)s,
            rehearsal => %(rehearsal)s)""",
        {"document": Jsonb(document), "actor": actor, "rehearsal": rehearsal},
    )
    if row["code"] != "ok":
        raise faulty(row["faults"])
    names = [name for name in Published.__slots__ if name != "slug"]
    made = Published(slug=document["slug"], **{name: row[name] for name in names})
    if made.created and not rehearsal:
        _log.info("course_published", slug=made.slug, version=made.version, touched=made.touched)
    return made


async def publish_samples(db: Handle) -> list[Published]:
    """Publish the courses that come with Holdfast, where there is none of their name yet."""
    known = {course.slug for course in await catalogue(db)}
    made = []
    for file in sorted(
        (resources.files(__package__) / "samples").iterdir(), key=lambda file: file.name
    ):
        document = parse(file.read_text("utf-8"))
        if document["slug"] not in known:
            made.append(await publish(db, document, actor="samples"))
    return made


async def catalogue(
    db: Handle, *, owners: Sequence[UUID] = (), locale: str = DEFAULT
) -> list[CourseSummary]:
    """Return every course, by slug; `enrolment_id` where one of `owners` is enrolled."""
    rows = await call(
        db,
        "select * from courses.catalogue(owners => %(owners)s::uuid[], language => %(locale)s)",
        {"owners": list(owners), "locale": locale},
    )
    return [CourseSummary(**row) for row in rows]
