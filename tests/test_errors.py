"""The tree of errors: one class, one code, one status; facts survive the way to the caller."""

from __future__ import annotations

import inspect
import pickle
from datetime import UTC, datetime
from uuid import UUID

import pytest

from holdfast import errors
from holdfast.errors import BrokenPromise, HoldfastError, Refusal, Retryable, Setup, Unavailable

EVERY = errors.classes()
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")

# the outer contract: (code, status) that programs outside rely on
PROMISED = {
    ("malformed_json", 400), ("invalid", 422), ("too_large", 422), ("payload_too_large", 413),
    ("not_found", 404), ("method_not_allowed", 405), ("unsupported_media_type", 415),
    ("forbidden", 403), ("rate_limited", 429), ("version_mismatch", 412), ("internal", 500),
    ("unavailable", 503), ("idempotency_key_required", 400), ("idempotency_key_reused", 422),
    ("idempotency_in_flight", 409), ("insufficient_tokens", 402), ("balance_below_floor", 409),
    ("hold_finished", 409), ("lease_lost", 409), ("job_finished", 409), ("job_not_failed", 409),
    ("order_not_found", 404), ("order_already_assigned", 409), ("order_not_pending", 409),
    ("desk_not_found", 404), ("wip_limit_reached", 409), ("step_locked", 409),
    ("token_missing", 401), ("token_expired", 401), ("token_not_yet_valid", 401),
    ("token_signature", 401), ("token_issuer", 401), ("token_party", 401), ("token_claims", 401),
    ("session_pending", 401), ("ticket_invalid", 401), ("device_id_invalid", 400),
    ("device_secret_malformed", 400), ("device_secret_required", 401),
    ("device_secret_invalid", 401), ("device_secret_invalid", 403),
    ("device_linked", 401), ("device_linked", 409),
}  # fmt: skip


def test_the_promised_codes_have_the_promised_statuses():
    assert {(kind.code, kind.status) for kind in EVERY} >= PROMISED


def test_one_class_stands_for_one_code_and_one_sqlstate():
    for kind in EVERY:
        namesakes = [other for other in EVERY if other.code == kind.code]
        # two codes have a second status, in the body of a link: a subclass that changes only that
        assert len({other.status for other in namesakes}) == len(namesakes), kind
        assert all(issubclass(other, errors.by_code(kind.code)) for other in namesakes)
    states = [other for other in EVERY if other.sqlstate and "sqlstate" in vars(other)]
    assert len({kind.sqlstate for kind in states}) == len(states)


def test_every_class_is_reachable_by_its_name_and_says_what_it_is():
    for kind in EVERY:
        assert getattr(errors, kind.__name__) is kind
        assert inspect.getdoc(kind) != inspect.getdoc(kind.__base__), kind
        assert issubclass(kind, HoldfastError)


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_statuses_agree_with_their_branch(kind):
    if issubclass(kind, BrokenPromise):
        assert kind.status == 500
    elif issubclass(kind, Unavailable | Setup):
        assert kind.status == 503
    elif issubclass(kind, Refusal):
        assert 400 <= kind.status < 500


def test_a_code_gives_its_class_with_facts():
    error = errors.refusal("insufficient_tokens", needed=50, available=7, holder=None)
    assert type(error) is errors.InsufficientTokens
    assert error.facts == {"needed": 50, "available": 7}
    assert str(error) == "insufficient_tokens: This costs 50 crystals; you have 7 crystals."


def test_an_undeclared_code_is_a_broken_promise_that_names_it():
    error = errors.refusal("no_such_code", job=ID)
    assert type(error) is BrokenPromise
    assert "no_such_code" in str(error)
    assert error.exposed() == {}


def test_facts_are_json_in_camel_case_all_the_way_down():
    error = errors.OrderAlreadyAssigned(
        holder={"id": ID, "display_name": "Ada"},
        since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        missing_steps=[{"step_id": ID}],
        version=3,
    )
    assert error.exposed() == {
        "holder": {"id": str(ID), "displayName": "Ada"},
        "since": "2026-01-02T03:04:05Z",
        "missingSteps": [{"stepId": str(ID)}],
        "version": 3,
    }


def test_errors_survive_pickling_with_their_facts():
    error = pickle.loads(pickle.dumps(Unavailable(retry_after=9)))
    assert type(error) is Unavailable
    assert error.retry_after == 9


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        (None, Unavailable), ("08006", Unavailable), ("57P01", Unavailable), ("57P03", Unavailable),
        ("53300", Unavailable), ("53100", Unavailable), ("57014", Unavailable),
        ("40001", Retryable), ("40P01", Retryable), ("55P03", Retryable),
        ("KH000", BrokenPromise), ("KH001", errors.IllegalTransition), ("KH002", errors.AppendOnly),
        ("KH003", errors.WrongStart), ("KH004", errors.LeaseLost), ("KH999", BrokenPromise),
        ("42501", errors.DatabaseRights), ("25006", errors.DatabaseReadOnly),
        ("22P02", type(None)), ("23505", type(None)), ("XX000", type(None)),
    ],
)  # fmt: skip
def test_what_the_database_raises_has_one_class(sqlstate, kind):
    assert type(errors.for_sqlstate(sqlstate, "said the database")) is kind


def test_an_outage_is_never_told_as_a_refusal():
    assert not issubclass(Unavailable, Refusal)
    assert not issubclass(BrokenPromise, Refusal)
    assert "said the database" in str(errors.for_sqlstate("KH002", "said the database"))


def test_field_problems_are_told_in_the_readers_language():
    error = errors.Invalid.of(
        [{"pointer": "/prompt", "code": "too_long", "most": 4000}], locale="ru"
    )
    [problem] = error.exposed()["errors"]
    assert problem["pointer"] == "/prompt"
    assert problem["code"] == "too_long"
    assert "символов" in problem["detail"]
