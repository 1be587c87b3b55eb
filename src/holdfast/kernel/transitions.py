"""The catalogue of machines: statuses and edges, declared once beside the verbs that walk them."""

from dataclasses import dataclass

from holdfast.postgres.call import call
from holdfast.postgres.pool import Handle


@dataclass(frozen=True, slots=True)
class Edge:
    """One declared move, from → to, by `verb`; the audit calls it `action`."""

    verb: str
    from_status: str
    to_status: str
    who: str
    action: str


@dataclass(frozen=True, slots=True)
class Machine:
    """One life cycle. A new row starts as `initial`; `entity` is the table."""

    machine: str
    entity: str
    initial: str
    statuses: tuple[str, ...]
    edges: tuple[Edge, ...]

    def mermaid(self) -> str:
        """Return the state diagram, as Mermaid."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        verbs: dict[tuple[str, str], list[str]] = {}
        for edge in self.edges:
            verbs.setdefault((edge.from_status, edge.to_status), []).append(edge.verb)
        for (start, end), names in sorted(verbs.items()):
            lines.append(f"    {start} --> {end}: {', '.join(sorted(set(names)))}")
        left = {edge.from_status for edge in self.edges if edge.from_status != edge.to_status}
        lines += [f"    {status} --> [*]" for status in self.statuses if status not in left]
        return "\n".join(lines)


async def declare(owner: Handle, *, machine: str, entity: str, edges: str) -> None:
    """Declare the life cycle of a table of yours, and put up its guards.

    `entity` is the table (`shop.parcel`) with columns `id uuid` and `status text`; `edges` is the
    notation of the .sql files: the statuses in the first line, then `verb: from → to (who)`. From
    then on only declared moves pass, for every program, and each leaves a trace. Needs the
    connection of the table's owner, with the owner's rights in Holdfast. Raises Internal where
    the text cannot be read.
    """
    await call(
        owner,
        """select transitions.declare(machine => %(machine)s, entity => %(entity)s,
            edges => %(edges)s)""",
        {"machine": machine, "entity": entity, "edges": edges},
    )
    await call(
        owner, "select transitions._raise_guards(called => %(machine)s)", {"machine": machine}
    )


async def machines(db: Handle) -> list[Machine]:
    """Return every machine of this installation."""
    rows = await call(db, "select * from transitions.machines()")
    return [
        Machine(
            machine=row["machine"],
            entity=row["entity"],
            initial=row["initial"],
            statuses=tuple(row["statuses"]),
            edges=tuple(
                Edge(e["verb"], e["from"], e["to"], e["who"], e["action"]) for e in row["edges"]
            ),
        )
        for row in rows
    ]
