"""The seed's scenarios in which something fails while a story is bought: no charge, no trace."""

import pytest
from psycopg import sql

from holdfast.errors import HoldfastError
from holdfast.kernel import ledger, queue
from holdfast.systems import stories

WRITTEN = ["ledger.entry", "queue.job", "queue.job_ready", "idempotency.key", "audit.event",
           "outbox.effect"]  # fmt: skip


@pytest.mark.parametrize("table", WRITTEN)
@pytest.mark.parametrize("combining", [False, True], ids=["alone", "combined"])
async def test_whatever_cannot_be_written_nothing_is(
    db, combined, owner, new_account, table, combining
):
    """Creation fails, the queue cannot take it, anything between: 0 charges, 0 refunds."""
    account = await new_account()
    other = await new_account()
    await owner.execute(
        "create function public.full() returns trigger language plpgsql as"
        " $$ begin raise exception 'the disk is full' using errcode = '53100'; end $$"
    )
    full = sql.SQL("create trigger zz_full before insert on {} execute function public.full()")
    await owner.execute(full.format(sql.Identifier(*table.split("."))))
    order = {"account_id": account, "prompt": "a fox", "key": "k"}
    with pytest.raises(HoldfastError):
        await stories.generate(combined if combining else db, **order)
    assert (await ledger.wallet_of(db, account_id=account)).balance == 100
    assert await queue.list_of(db, owners=[account]) == []
    assert [entry.kind for entry in await ledger.transactions(db, account_id=account)] == ["grant"]

    gone = sql.SQL("drop trigger zz_full on {}")
    await owner.execute(gone.format(sql.Identifier(*table.split("."))))
    made = await stories.generate(combined if combining else db, **order)
    assert not made.replayed, "the key was not burned"
    assert (await ledger.wallet_of(db, account_id=account)).balance == 50
    assert (await ledger.wallet_of(db, account_id=other)).balance == 100


async def test_a_story_can_be_sold_before_any_worker_has_run(db, new_account):
    account = await new_account()
    made = await stories.generate(db, account_id=account, prompt="a fox", key="k")
    job = await queue.get(db, job_id=made.id, owners=[account])
    assert (job.status, job.attempts) == ("queued", 3)
