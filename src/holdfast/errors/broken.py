"""Broken promises (SQLSTATE class KH) and installations that cannot start."""

from __future__ import annotations

from holdfast.errors.tree import BrokenPromise, Setup, Unavailable


class IllegalTransition(BrokenPromise):
    """A row was to move along an edge that no machine declares."""

    code, sqlstate = "illegal_transition", "KH001"


class AppendOnly(BrokenPromise):
    """An entry or an audit row was to be changed or removed."""

    code, sqlstate = "append_only", "KH002"


class WrongStart(BrokenPromise):
    """A row was to be born in a status that is not its machine's first."""

    code, sqlstate = "wrong_start", "KH003"


class DatabaseTooOld(Setup):
    """The server is older than PostgreSQL 15; facts: `version`."""

    code = "database_too_old"


class DatabaseUnreachable(Unavailable):
    """Nothing answers at the address; facts: `address` (no password)."""

    code = "database_unreachable"


class DatabasePassword(Setup):
    """The server refused the user or the password; facts: `user`."""

    code = "database_password"


class DatabaseMissing(Setup):
    """The server has no such database; facts: `database`."""

    code = "database_missing"


class DatabaseRights(Setup):
    """The role may not do what is needed (42501); facts: `role`."""

    code, sqlstate = "database_rights", "42501"


class DatabaseReadOnly(Setup):
    """The server takes no writes: a standby, or read-only by setting (25006)."""

    code, sqlstate = "database_read_only", "25006"


class SchemaMissing(Setup):
    """The database was never migrated."""

    code = "schema_missing"


class SchemaOutdated(Setup):
    """Migrations are pending; facts: `pending`, how many."""

    code = "schema_outdated"


class MigrationChanged(Setup):
    """An applied migration differs from the file of that name; facts: `name`."""

    code = "migration_changed"


class EmbeddedServerFailed(Setup):
    """The embedded PostgreSQL did not start or stop; facts: `reason`, maybe `log` (its path)."""

    code = "embedded_server_failed"


class HomeUnusable(Setup):
    """HOLDFAST_HOME cannot be made or written; facts: `path`."""

    code = "home_unusable"


class PortTaken(Setup):
    """Another program listens there; facts: `host`, `port`."""

    code = "port_taken"


class SettingInvalid(Setup):
    """A setting has a value it cannot have; facts: `name`, `given`, `allowed`."""

    code = "setting_invalid"


class ProductionRefused(Setup):
    """HOLDFAST_ENV=production with something that belongs to development; facts: `reason`."""

    code = "production_refused"
