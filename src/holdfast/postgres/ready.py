"""Can the database serve now: does it answer, is its schema ours, and what is weaker here."""

from dataclasses import dataclass

from holdfast.errors import SchemaMissing, SchemaOutdated
from holdfast.postgres.call import call, call_one
from holdfast.postgres.pool import Handle
from holdfast.postgres.sources import Sources


@dataclass(frozen=True, slots=True)
class Readiness:
    """A database that can be used.

    `server` is PostgreSQL's version, `schema` the last migration; `weaker` names the promises that
    this installation keeps less strictly, none where everything is as it should be.
    """

    server: str
    schema: str
    weaker: tuple[str, ...]


async def readiness(db: Handle) -> Readiness:
    """Ask the database. Raises Unavailable, SchemaMissing, SchemaOutdated (`pending`)."""
    row = await call_one(
        db,
        """select current_setting('server_version') as server,
            to_regclass('kernel.migration') is not null as installed,
            current_setting('fsync')::bool and current_setting('full_page_writes')::bool as safe,
            current_setting('synchronous_commit') <> 'off' as durable""",
    )
    if not row["installed"]:
        raise SchemaMissing
    rows = await call(
        db,
        """select m.name, has_table_privilege('kernel.migration', 'insert') as writable
            from kernel.migration m""",
    )
    applied = {found["name"] for found in rows}
    ours = [file.name for file in Sources().migration_files()]
    if pending := [name for name in ours if name not in applied]:
        raise SchemaOutdated(pending=len(pending))
    doubts = {
        "one role owns and uses the tables: only triggers guard them": rows[0]["writable"],
        "fsync is off: a crash of the machine can lose or break data": not row["safe"],
        "commits are not waited for: a crash can lose the last ones": not row["durable"],
    }
    weaker = tuple(doubt for doubt, real in doubts.items() if real)
    return Readiness(row["server"], ours[-1], weaker)
