"""Blocking callers use the same verbs, also inside a transaction of their own."""

import psycopg
import pytest

from holdfast.errors import IdempotencyKeyReused, InsufficientTokens
from holdfast.sync import accounts, ledger, queue, stories


@pytest.fixture
def connection(app_url):
    with psycopg.connect(app_url, autocommit=True) as connection:
        queue.declare_kind(connection, queue.Kind("story"))
        yield connection


def test_a_whole_life_without_an_event_loop(connection):
    ann = accounts.sign_in(connection, kind="dev", subject="ann")
    made = stories.generate(connection, account_id=ann.id, prompt="a fox", key="k")
    [lease] = queue.claim(connection, worker="worker:a", kinds=["story"], limit=1)
    assert lease.id == made.id
    ended = queue.finish(connection, job_id=made.id, token=lease.token, result={"text": "Once"})
    assert ended.status == "completed"
    assert queue.get(connection, job_id=made.id, owners=[ann.id]).result == {"text": "Once"}


def test_refusals_are_the_same_classes(connection):
    ann = accounts.sign_in(connection, kind="dev", subject="ann")
    with pytest.raises(InsufficientTokens):
        ledger.charge(connection, account_id=ann.id, amount=101, key="c")
    ledger.charge(connection, account_id=ann.id, amount=1, key="c")
    with pytest.raises(IdempotencyKeyReused):
        ledger.charge(connection, account_id=ann.id, amount=2, key="c")


def test_a_verb_rolls_back_with_the_callers_transaction(connection):
    ann = accounts.sign_in(connection, kind="dev", subject="ann")
    with pytest.raises(ZeroDivisionError), connection.transaction():  # noqa: PT012
        stories.generate(connection, account_id=ann.id, prompt="a fox", key="k")
        assert ledger.wallet_of(connection, account_id=ann.id).balance == 50
        _ = 1 / 0
    assert ledger.wallet_of(connection, account_id=ann.id).balance == 100
    assert queue.list_of(connection, owners=[ann.id]) == []


def test_an_unknown_name_is_an_attribute_error():
    import holdfast.sync

    with pytest.raises(AttributeError):
        _ = holdfast.sync.nothing
