"""What a database holds, as lines of text: two databases are alike when their lines are."""

from collections.abc import Sequence
from typing import Any

import psycopg

_QUERIES = (
    # columns
    """select format('column %%s.%%s.%%s %%s%%s default %%s %%s', n.nspname, c.relname, a.attname,
              format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end,
              pg_get_expr(d.adbin, d.adrelid), a.attacl)
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
       where n.nspname = any (%s) and c.relkind in ('r', 'p', 'v', 'm')""",
    # tables, views, indexes, with their rights and options
    """select format('relation %%s.%%s %%s %%s %%s %%s %%s', n.nspname, c.relname, c.relkind,
              pg_get_userbyid(c.relowner), c.relacl, c.reloptions,
              case when c.relkind = 'i' then pg_get_indexdef(c.oid)
                   when c.relkind = 'v' then pg_get_viewdef(c.oid) end)
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = any (%s) and c.relkind <> 'c'""",
    """select format('constraint %%s.%%s %%s %%s', n.nspname, c.conrelid::regclass, c.conname,
              pg_get_constraintdef(c.oid))
       from pg_constraint c join pg_namespace n on n.oid = c.connamespace
       where n.nspname = any (%s)""",
    """select format('trigger %%s %%s %%s', n.nspname, t.tgenabled, pg_get_triggerdef(t.oid))
       from pg_trigger t join pg_class c on c.oid = t.tgrelid
       join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = any (%s) and not t.tgisinternal""",
    """select format('routine %%s %%s %%s %%s', p.oid::regprocedure, pg_get_userbyid(p.proowner),
              p.proacl, pg_get_functiondef(p.oid))
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname = any (%s) and p.prokind in ('f', 'p')""",
    """select format('schema %%s %%s %%s', n.nspname, pg_get_userbyid(n.nspowner), n.nspacl)
       from pg_namespace n where n.nspname = any (%s)""",
)


def lines(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> list[str]:
    """Return every table, column, constraint, index, trigger, routine and right, in order."""
    return sorted(
        line for query in _QUERIES for (line,) in connection.execute(query, [[*schemas]]).fetchall()
    )
