"""Finishing a step reads as many rows in a course of 600 steps as in one of 10."""

import psycopg
from psycopg.rows import dict_row

from courses_content import publish
from holdfast.postgres.call import run_sync
from holdfast.systems import courses

READ = """select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) as n
    from pg_stat_user_tables where schemaname in ('courses', 'outbox', 'audit')"""


def read_rows(connection):
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select pg_stat_clear_snapshot()")
    return int(connection.execute(READ).fetchone()["n"])


def cost_of_the_last(connection, account, slug):
    """Finish a course; returns how many rows the last but one completion read."""
    way = run_sync(courses.enrol(connection, account_id=account, slug=slug, actor="test"))
    seen = run_sync(courses.get(connection, enrolment_id=way.id, owners=[account]))
    steps = [step["id"] for step in seen.days[0]["steps"]]

    def finish(step):
        verb = courses.complete_step(
            connection, enrolment_id=way.id, step_id=step, owners=[account], actor="test"
        )
        run_sync(verb)

    for step in steps[:-2]:
        finish(step)
    before = read_rows(connection)
    finish(steps[-2])
    return read_rows(connection) - before


async def test_the_rows_read_do_not_grow_with_the_course(db, app_url, new_account):
    for size in (10, 600):
        await publish(db, f"c{size}", [f"s{n}" for n in range(size)])
    people = [await new_account() for _ in range(2)]
    with psycopg.connect(app_url, autocommit=True, row_factory=dict_row) as connection:
        short = cost_of_the_last(connection, people[0], "c10")
        long = cost_of_the_last(connection, people[1], "c600")
    assert 0 < short < 40
    assert long <= short * 1.2
