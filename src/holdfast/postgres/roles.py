"""The two roles people log in as, made by the embedded server at its first start."""

import psycopg
from psycopg import sql


def create_login_roles(url: str, *, database: str, owner: str, application: str) -> None:
    """Make, where missing, the owner's role and the application's, and the owner's database.

    The owner is no superuser: CREATEROLE and CREATEDB are enough to migrate, to make the role the
    verbs run as, and to hand them to it. Admin of the application's role, so that it can grant it.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        known = {name for (name,) in connection.execute("select rolname from pg_roles")}
        for name, statement in (
            (owner, sql.SQL("create role {} login createrole createdb")),
            (application, sql.SQL("create role {} login")),
        ):
            if name not in known:
                connection.execute(statement.format(sql.Identifier(name)))
        connection.execute(
            sql.SQL("grant {} to {} with admin option").format(
                sql.Identifier(application), sql.Identifier(owner)
            )
        )
        found = connection.execute("select 1 from pg_database where datname = %s", [database])
        if found.fetchone() is None:
            connection.execute(
                sql.SQL("create database {} owner {}").format(
                    sql.Identifier(database), sql.Identifier(owner)
                )
            )
