"""The SQL an installation is made of: migrations, and the verbs created anew each time."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PACKAGE = Path(__file__).parent.parent
_KERNEL = ("prelude", "transitions", "audit", "idempotency", "ledger", "outbox", "queue")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the SQL lies. A concept is `stem.sql` or a folder `stem/`; a stem is a schema.

    `kernel` is read in the order of `stems` (then what is left, by name), `systems` by name.
    `insertable` names the columns of tables into which the application may INSERT directly.
    """

    migrations: Path = _PACKAGE / "migrations"
    kernel: Path = _PACKAGE / "kernel"
    systems: Path = _PACKAGE / "systems"
    stems: tuple[str, ...] = _KERNEL
    insertable: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "accounts.account": ("bucket", "id", "name", "locale", "time_zone", "quiet_hours")
        }
    )

    def migration_files(self) -> list[Path]:
        """Return the migrations in the order in which they are applied."""
        return sorted(self.migrations.glob("[0-9]*.sql"))

    def verb_files(self) -> list[Path]:
        """Return the files of the verbs in the order in which they are created."""
        return [file for _, files in self._concepts() for file in files]

    def schemas(self) -> list[str]:
        """Return the schemas that are ours, `kernel` first."""
        return list(dict.fromkeys(["kernel", *(stem for stem, _ in self._concepts())]))

    def digest(self, *more: str) -> str:
        """Return a digest over every file, its place, and `more`."""
        made = hashlib.sha256()
        for file in [*self.migration_files(), *self.verb_files()]:
            made.update(f"{file.parent.name}/{file.name}\0{digest_of(file)}\0".encode())
        made.update("\0".join(more).encode())
        return made.hexdigest()

    def _concepts(self) -> Iterator[tuple[str, list[Path]]]:
        for root, first in ((self.kernel, self.stems), (self.systems, ())):
            found = {path.stem for path in root.glob("*.sql")}
            found |= {path.parent.name for path in root.glob("*/*.sql")}
            for stem in (*(s for s in first if s in found), *sorted(found - set(first))):
                yield stem, [*root.glob(f"{stem}.sql"), *sorted(root.glob(f"{stem}/*.sql"))]


def digest_of(file: Path) -> str:
    """Return the digest of one file; line ends do not count."""
    return hashlib.sha256(file.read_text("utf-8").encode()).hexdigest()
