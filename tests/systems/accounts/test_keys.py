"""The cached key set against a real endpoint that counts: no stranger can make us fetch."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from holdfast.errors import Unauthenticated
from holdfast.systems.accounts.keys import COOL_DOWN_SECONDS, FRESH_SECONDS, KeySet
from holdfast.systems.accounts.tokens import Trust, Verifier
from hostile_tokens import ISSUER, PARTY, Issuer
from key_endpoint import Endpoint

GOOD = Issuer.make()
NEXT = Issuer.make("ins_2")
STRANGER = Issuer.make("ins_stranger")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def endpoint() -> Endpoint:
    """Has its port, and is down."""
    made = Endpoint([GOOD])
    async with made.up():
        pass
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextlib.asynccontextmanager
async def verifying(endpoint: Endpoint, clock: Clock) -> AsyncIterator[Verifier]:
    keys = KeySet(endpoint.url, clock=clock)
    made = Verifier([Trust("clerk", keys, ISSUER, frozenset([PARTY]))])
    try:
        yield made
    finally:
        await made.close()


async def refused(verifier: Verifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as problem:
        await verifier.verify(token)
    assert problem.value.status == 401
    return problem.value.code


def forged(n: int) -> str:
    """Sign as a stranger under the good name; each token differs."""
    return Issuer(STRANGER.key, GOOD.kid).token(sub=f"user_{n}")


async def test_parallel_first_tokens_share_one_flight(endpoint, clock):
    endpoint.hold = asyncio.Event()
    async with endpoint.up(), verifying(endpoint, clock) as verifier:
        waiting = [
            asyncio.create_task(verifier.verify(GOOD.token(sub=f"user_{n}"))) for n in range(50)
        ]
        await asyncio.wait_for(endpoint.arrived.wait(), 10)
        waiting[0].cancel()  # one who goes away does not end it for the others
        endpoint.hold.set()
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [d.subject for d in done[1:]] == [f"user_{n}" for n in range(1, 50)]
    assert endpoint.asked == 1


async def test_a_stranger_cannot_make_us_fetch(endpoint, clock):
    good = GOOD.token()
    unknown = [STRANGER.token({"kid": f"unknown_{n}"}) for n in range(1000)]
    async with verifying(endpoint, clock) as verifier:
        async with endpoint.up():
            await verifier.verify(good)
            for rounds in (1, 2):
                clock.now += COOL_DOWN_SECONDS
                codes = await asyncio.gather(*(refused(verifier, token) for token in unknown))
                assert set(codes) == {"token_key_unknown"}
                clock.now += COOL_DOWN_SECONDS - 1
                codes = await asyncio.gather(*(refused(verifier, token) for token in unknown))
                assert set(codes) == {"token_key_unknown"}
                codes = await asyncio.gather(*(refused(verifier, forged(n)) for n in range(50)))
                assert set(codes) == {"token_signature"}
                assert endpoint.asked == 1 + rounds  # one for a cool-down, not for a token
        # The endpoint is down now: nothing was evicted, by names or by signatures.
        assert (await verifier.verify(GOOD.token(sub="user_new"))).subject == "user_new"
        assert await verifier.verify(good)
        assert endpoint.asked == 3


async def test_forged_signatures_alone_fetch_nothing(endpoint, clock):
    async with endpoint.up(), verifying(endpoint, clock) as verifier:
        await verifier.verify(GOOD.token())
        clock.now += 2 * COOL_DOWN_SECONDS
        for n in range(200):
            assert await refused(verifier, forged(n)) == "token_signature"
        assert await verifier.verify(GOOD.token(sub="user_other"))
    assert endpoint.asked == 1


async def test_down_from_the_start_is_401_and_heals(endpoint, clock):
    async with verifying(endpoint, clock) as verifier:
        assert await refused(verifier, GOOD.token()) == "token_key_unknown"
        async with endpoint.up():
            assert await refused(verifier, GOOD.token()) == "token_key_unknown"
            assert endpoint.asked == 0  # it is too early for another try
            clock.now += COOL_DOWN_SECONDS
            assert await verifier.verify(GOOD.token())


async def test_down_later_an_unknown_kid_is_401_and_good_ones_pass(endpoint, clock):
    async with verifying(endpoint, clock) as verifier:
        async with endpoint.up():
            await verifier.verify(GOOD.token())
        clock.now += FRESH_SECONDS + COOL_DOWN_SECONDS  # stale, and no better answer to be had
        assert await verifier.verify(GOOD.token(sub="user_late"))
        assert await refused(verifier, NEXT.token()) == "token_key_unknown"
        clock.now += COOL_DOWN_SECONDS
        assert await refused(verifier, NEXT.token()) == "token_key_unknown"
        assert await verifier.verify(GOOD.token(sub="user_later"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [7, {"kty": "RSA", "kid": "ins_1", "n": "!", "e": "AQAB"}]}'),
        (200, json.dumps({"keys": [Issuer.make(bits=1024).jwk]}).encode()),
        (200, b'{"keys": [' + b" " * 300_000 + b"]}"),
        (200, b"[" * 100_000),
    ],
    ids=["500", "redirect", "html", "list", "empty", "broken", "weak", "huge", "deep"],
)
async def test_a_bad_answer_leaves_the_good_keys(endpoint, clock, status, body):
    async with endpoint.up(), verifying(endpoint, clock) as verifier:
        await verifier.verify(GOOD.token())
        endpoint.status, endpoint.body = status, body
        clock.now += COOL_DOWN_SECONDS
        assert await refused(verifier, NEXT.token()) == "token_key_unknown"
        assert endpoint.asked == 2
        assert await verifier.verify(GOOD.token(sub="user_other"))


async def test_rotation_is_picked_up_after_the_cool_down(endpoint, clock):
    async with endpoint.up(), verifying(endpoint, clock) as verifier:
        old = GOOD.token()
        await verifier.verify(old)
        endpoint.issuers = [NEXT]
        assert await refused(verifier, NEXT.token()) == "token_key_unknown"
        clock.now += COOL_DOWN_SECONDS
        assert await verifier.verify(NEXT.token())
        assert endpoint.asked == 2
        # The withdrawn key counts no more, also for a token that passed before.
        assert await refused(verifier, old) == "token_key_unknown"
        assert await refused(verifier, GOOD.token(sub="user_other")) == "token_key_unknown"
        assert endpoint.asked == 2


async def test_a_key_replaced_under_its_name_is_the_new_one(endpoint, clock):
    renewed = Issuer(NEXT.key, GOOD.kid)
    async with endpoint.up(), verifying(endpoint, clock) as verifier:
        old = GOOD.token()
        await verifier.verify(old)
        endpoint.issuers = [renewed]
        clock.now += FRESH_SECONDS + 1
        endpoint.arrived.clear()
        endpoint.hold = asyncio.Event()
        assert await verifier.verify(old)  # does not wait for the fetch it caused
        await asyncio.wait_for(endpoint.arrived.wait(), 10)
        endpoint.hold.set()
        async with asyncio.timeout(10):
            await refused(verifier, STRANGER.token())  # waits for the flight there is
        assert await verifier.verify(renewed.token())
        assert await refused(verifier, old) == "token_signature"
    assert endpoint.asked == 2
