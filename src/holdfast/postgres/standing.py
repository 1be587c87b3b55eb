"""What a login is to our schema: which role to take on, how far it is migrated, which wall is weak.

Asked once by every process when it starts; also what `holdfast doctor` and `/readyz` tell.
"""

from dataclasses import dataclass
from typing import Any

import psycopg

from holdfast.postgres.conninfo import conninfo
from holdfast.postgres.failures import error_for
from holdfast.postgres.install import pending
from holdfast.postgres.walls import APPLICATION, DEFINER

_ASKED = """
    select current_user, current_setting('server_version') as version,
           (select rolsuper from pg_roles where rolname = current_user) as superuser,
           coalesce((select pg_has_role(current_user, r.oid, 'MEMBER') from pg_roles r
                     where r.rolname = %(application)s), false) as may_be_application,
           coalesce((select pg_has_role(current_user, n.nspowner, 'MEMBER') from pg_namespace n
                     where n.nspname = 'kernel'), false) as owner,
           coalesce((select r.rolname = %(definer)s from pg_proc p
                     join pg_roles r on r.oid = p.proowner
                     join pg_namespace n on n.oid = p.pronamespace
                     where n.nspname = 'queue' and p.proname = 'submit'), true) as two_walls,
           to_regclass('kernel.migration') is not null as installed
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What was found. `role` is what connections take on; None: they stay as who logs in.

    `installed` is false for a database without our schema; `pending` names migrations that were
    not applied; `weaker` says, a sentence each, what the walls do not hold for this login.
    `clock_shift` is in seconds, and not 0 only in tests.
    """

    login: str
    version: str
    role: str | None
    owner: bool
    installed: bool
    pending: tuple[str, ...]
    weaker: tuple[str, ...]
    clock_shift: float


def standing(url: str) -> Standing:
    """Ask the database at `url`. Blocking. Raises Unavailable, DatabaseRights, Internal."""
    try:
        with psycopg.connect(
            conninfo(url), autocommit=True, row_factory=psycopg.rows.dict_row
        ) as connection:
            names = {"application": APPLICATION, "definer": DEFINER}
            found: dict[str, Any] | None = connection.execute(_ASKED, names).fetchone()
            assert found is not None
            left: tuple[str, ...] = ()
            shift = 0.0
            if found["installed"]:
                with psycopg.connect(conninfo(url), autocommit=True) as plain:
                    left = tuple(pending(plain))
                    row = plain.execute("select extract(epoch from shift) from kernel.clock")
                    shift = float((row.fetchone() or (0,))[0])
    except psycopg.Error as problem:
        raise error_for(problem) from problem
    login = found["current_user"]
    takes = login != APPLICATION and found["may_be_application"]
    return Standing(
        login=login,
        version=found["version"],
        role=APPLICATION if takes else None,
        owner=found["owner"] or found["superuser"],
        installed=found["installed"],
        pending=left,
        weaker=tuple(_weaker(found, login)),
        clock_shift=shift,
    )


def _weaker(found: dict[str, Any], login: str) -> list[str]:
    told = []
    if found["installed"] and not found["two_walls"]:
        told.append(
            f"the verbs run as the owner himself, because {login} may not make roles: raw SQL of "
            "the application is refused by the guards only"
        )
    elif found["installed"] and (found["owner"] or found["superuser"]):
        told.append(
            f"the login {login} owns the tables: Holdfast's own connections give that up, but "
            "another program with this URL meets the guards only"
        )
    return told
