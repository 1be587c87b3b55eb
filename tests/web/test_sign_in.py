"""Signing in over HTTP: hostile tokens are 401 and make nobody; floods and guesses are slowed."""

import asyncio
import contextlib
import re
import time

import httpx
import pytest

from holdfast.config import Settings
from holdfast.web.app import create_app
from hostile_tokens import ISSUER, PARTY, Issuer, hostile
from key_endpoint import Endpoint

GOOD = Issuer.make()


@contextlib.asynccontextmanager
async def running(settings, db):
    made = create_app(settings, db)
    async with made.router.lifespan_context(made):
        yield made


def asking(app, address="192.0.2.1"):
    """A client at this address."""
    transport = httpx.ASGITransport(app, client=(address, 40_000))
    return httpx.AsyncClient(transport=transport, base_url="http://holdfast.test")


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def device(name, secret="s" * 40):
    return {"X-Device-Id": f"device-{name}", "X-Device-Secret": secret}


async def count_accounts(owner):
    [count] = await (await owner.execute("select count(*) from accounts.account")).fetchone()
    return count


def standing(answer, title):
    """What is left and for how many seconds, by the answer's RateLimit header."""
    found = re.search(f'"{title}";r=(\\d+);t=(\\d+)', answer.headers["RateLimit"])
    assert found, answer.headers["RateLimit"]
    assert 1 <= int(found[2]) <= 60
    return int(found[1])


async def test_every_hostile_token_is_401_and_makes_nobody(tmp_path, combined, owner):
    endpoint = Endpoint([GOOD])
    cases, seen = hostile(GOOD), {}
    async with endpoint.up():
        settings = Settings(home=tmp_path, clerk_jwks_url=endpoint.url, clerk_issuer=ISSUER,
                            clerk_parties=(PARTY,))  # fmt: skip
        async with running(settings, combined) as app, asking(app) as client:
            for name, (token, _) in cases.items():
                answer = await client.get("/api/me", headers=bearer(token))
                assert answer.headers["content-type"].startswith("application/problem+json")
                seen[name] = (answer.status_code, answer.json()["code"])
            assert seen == {name: (401, code) for name, (_, code) in cases.items()}
            assert len(seen) >= 40
            assert await count_accounts(owner) == 0
            late = GOOD.token(exp=int(time.time()) - 4)
            assert (await client.get("/api/me", headers=bearer(late))).status_code == 200
            assert await count_accounts(owner) == 1
    assert endpoint.asked == 1


async def test_keys_that_cannot_be_fetched_are_401_never_500(tmp_path, combined, owner):
    endpoint = Endpoint()
    async with endpoint.up():
        pass  # nobody listens there now
    settings = Settings(home=tmp_path, clerk_jwks_url=endpoint.url, clerk_issuer=ISSUER)
    async with running(settings, combined) as app, asking(app) as client:
        answer = await client.get("/api/me", headers=bearer(GOOD.token()))
        assert (answer.status_code, answer.json()["code"]) == (401, "token_key_unknown")
    assert await count_accounts(owner) == 0


@pytest.fixture
async def limited(tmp_path, combined):
    async with running(Settings(home=tmp_path, account_rate_limit=5), combined) as app:
        yield app


async def test_an_address_makes_so_many_accounts_a_minute(limited, owner):
    async with asking(limited) as client:
        for n in range(5):
            answer = await client.get("/api/me", headers=device(f"fresh-{n}"))
            assert answer.status_code == 200
            assert standing(answer, "accounts") == 4 - n
            assert '"accounts";q=5;w=60' in answer.headers["RateLimit-Policy"]
        answer = await client.get("/api/me", headers=device("fresh-5"))
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert standing(answer, "accounts") == 0
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert (await client.get("/api/me", headers=device("fresh-0"))).status_code == 200
    async with asking(limited, "192.0.2.2") as other:
        assert (await other.get("/api/me", headers=device("fresh-5"))).status_code == 200
    assert await count_accounts(owner) == 6


async def test_parallel_first_calls_do_not_pass_the_limit_together(limited, owner):
    async with asking(limited) as client:
        answers = await asyncio.gather(
            *(client.get("/api/me", headers=device(f"crowd-{n}")) for n in range(20))
        )
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (5, 15)
    assert await count_accounts(owner) == 5


async def test_failed_sign_ins_of_an_address_are_slowed(limited):
    async with asking(limited) as client:
        for n in range(5):
            answer = await client.get("/api/me", headers=bearer(f"nonsense{n}"))
            assert (answer.status_code, standing(answer, "failures")) == (401, 4 - n)
        answer = await client.get("/api/me", headers=bearer("nonsense"))
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert standing(answer, "failures") == 0
        assert int(answer.headers["Retry-After"]) >= 1
    async with asking(limited, "192.0.2.2") as other:
        answer = await other.get("/api/me", headers=bearer("nonsense"))
        assert answer.status_code == 401


async def test_guessing_a_devices_secret_is_slowed_before_the_database(limited, combined):
    async with asking(limited) as client:
        assert (await client.get("/api/me", headers=device("mine"))).status_code == 200
        for n in range(5):
            wrong = device("mine", f"{n}" * 40)
            assert (await client.get("/api/me", headers=wrong)).status_code == 401
        before = combined.round_trips
        answer = await client.get("/api/me", headers=device("mine", "x" * 40))
        assert answer.status_code == 429
        assert combined.round_trips == before
    async with asking(limited, "192.0.2.2") as owner_elsewhere:
        answer = await owner_elsewhere.get("/api/me", headers=device("mine"))
        assert answer.status_code == 200, "a stranger's guesses lock nobody out elsewhere"
