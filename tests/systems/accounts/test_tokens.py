"""Every hostile token is refused with its own code; the honest ones pass."""

import time

import pytest

from holdfast.config import Settings
from holdfast.errors import SettingInvalid, Unauthenticated
from holdfast.systems.accounts import development
from holdfast.systems.accounts.keys import FixedKey
from holdfast.systems.accounts.tokens import Trust, Verifier
from hostile_tokens import ISSUER, PARTY, Issuer, hostile

GOOD = Issuer.make()


@pytest.fixture
def verifier() -> Verifier:
    key = FixedKey(GOOD.key.public_key(), GOOD.kid)
    return Verifier([Trust("clerk", key, ISSUER, frozenset([PARTY]))])


async def refused(verifier: Verifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as problem:
        await verifier.verify(token)
    return problem.value.code


@pytest.mark.parametrize(("token", "code"), hostile(GOOD).values(), ids=hostile(GOOD).keys())
async def test_hostile(verifier, token, code):
    assert await refused(verifier, token) == code


def test_the_corpus_is_large():
    assert len(hostile(GOOD)) >= 40


async def test_the_honest_token_passes(verifier):
    verified = await verifier.verify(GOOD.token())
    assert (verified.kind, verified.subject, verified.session) == ("clerk", "user_good", "sess_1")
    assert verified.impersonator is None


async def test_expired_by_four_seconds_passes_and_by_six_does_not(verifier):
    now = int(time.time())
    assert (await verifier.verify(GOOD.token(exp=now - 4))).subject == "user_good"
    assert await refused(verifier, GOOD.token(exp=now - 6)) == "token_expired"


async def test_impersonation_names_both(verifier):
    verified = await verifier.verify(GOOD.token(act={"sub": "user_admin"}))
    assert (verified.subject, verified.impersonator) == ("user_good", "user_admin")


async def test_the_audience_counts_only_where_it_is_configured(verifier):
    assert await verifier.verify(GOOD.token(aud="anything"))
    key = FixedKey(GOOD.key.public_key())
    strict = Verifier([Trust("clerk", key, ISSUER, audience="holdfast")])
    assert await strict.verify(GOOD.token(aud=["other", "holdfast"]))
    for aud in ("other", ["other"], ..., 7):
        assert await refused(strict, GOOD.token(aud=aud)) == "token_audience"


async def test_a_fixed_key_answers_to_any_name(verifier):
    settings = Settings(env="production", clerk_pem=GOOD.pem, clerk_issuer=ISSUER,
                        clerk_parties=(PARTY,))  # fmt: skip
    made = development.verifier(settings)
    assert await made.verify(GOOD.token({"kid": ...}))
    assert await refused(made, Issuer.make().token()) == "token_signature"


def test_a_weak_or_foreign_key_is_refused_at_start():
    with pytest.raises(SettingInvalid):
        FixedKey.from_pem(Issuer.make(bits=1024).pem)
    with pytest.raises(SettingInvalid):
        FixedKey.from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")


async def test_a_development_token_passes_in_dev_and_nowhere_else(tmp_path):
    settings = Settings(home=tmp_path)
    token = development.mint(settings, "alice")
    verified = await development.verifier(settings).verify(token)
    assert (verified.kind, verified.subject) == ("dev", "alice")
    assert 11.9 * 3600 < verified.expires_at - time.time() <= 12 * 3600
    elsewhere = Settings(home=tmp_path / "other")
    assert await refused(development.verifier(elsewhere), token) == "token_key_unknown"
    production = Settings(home=tmp_path, env="production")
    assert await refused(development.verifier(production), token) == "token_key_unknown"


async def test_clerk_is_honoured_beside_the_development_key(tmp_path):
    settings = Settings(home=tmp_path, clerk_pem=GOOD.pem, clerk_issuer=ISSUER)
    made = development.verifier(settings)
    assert (await made.verify(GOOD.token())).kind == "clerk"
    assert (await made.verify(development.mint(settings, "bob"))).kind == "dev"
