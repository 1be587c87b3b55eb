"""Webhooks and Web Push, against receivers that answer, refuse, hang, move and go away."""

import base64
import json
import os

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from courses_content import Learner, at, publish
from holdfast import messages
from holdfast.kernel import outbox
from holdfast.kernel.outbox import DeliveryFailed
from holdfast.systems.providers.outward import AddressForbidden, Outward
from holdfast.systems.providers.push import PushChannel, Sender
from holdfast.systems.providers.webhooks import WebhookChannel, new_secret
from holdfast.worker.relay import LogChannel, Relay
from receiving import Receiver

SENDER = Sender.of(None, b"secret of a test", "mailto:test@example.org")


@pytest.fixture
async def way():
    made = Outward(allow_private=True)
    yield made
    await made.close()


@pytest.fixture
async def relay(db, way):
    channels = {
        "log": LogChannel(),
        "webhook": WebhookChannel(db, way),
        "push": PushChannel(db, way, SENDER),
    }
    return Relay(db, channels)


@pytest.fixture
async def receiver():
    async with Receiver().up() as made:
        yield made


async def drain(relay):
    while await relay.once():
        pass


@pytest.fixture
async def learner(db, owner, new_account):
    await publish(db, "c", ["a", "b"], ["d"])
    return await Learner.enrol(db, await new_account())


async def hook(db, new_account, url, topics=("courses.*",)):
    secret = new_secret()
    made, _ = await outbox.add_webhook(
        db, account_id=await new_account(), url=url, topics=topics, secret=secret
    )
    return made, secret


class Browser:
    """The keys of a subscription, and what it makes of a push."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = os.urandom(16)

    async def subscribe(self, db, account, url):
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        made = await outbox.subscribe(
            db,
            account_id=account,
            endpoint=url,
            p256dh=base64.urlsafe_b64encode(point).decode(),
            auth=base64.urlsafe_b64encode(self.secret).decode(),
        )
        return made.id

    def read(self, body):
        return json.loads(http_ece.decrypt(body, private_key=self.key, auth_secret=self.secret))


async def test_the_signature_verifies_with_the_reference_library(
    db, relay, receiver, learner, new_account
):
    _, secret = await hook(db, new_account, receiver.url)
    await learner.complete("a")
    await learner.complete("b")
    await drain(relay)
    (got,) = receiver.got
    told = Webhook(secret).verify(got.body, got.headers)
    assert told["type"] == "courses.day_finished"
    assert told["stream"] == str(learner.account)
    assert told["data"]["enrolment"] == str(learner.id)
    assert told["id"] == got.headers["webhook-id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace(b'"day":1', b'"day":2'), got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(got.body, got.headers)


async def test_only_the_topics_it_asked_for(db, relay, receiver, learner, new_account):
    await hook(db, new_account, receiver.url, ["courses.course_finished", "orders.*"])
    for key in ("a", "b", "d"):
        await learner.complete(key)
    await drain(relay)
    assert [json.loads(r.body)["type"] for r in receiver.got] == ["courses.course_finished"]


async def test_a_receiver_that_is_down_for_an_hour_gets_all_in_order(
    db, owner, relay, learner, new_account
):
    """And holds up nobody: another receiver has everything at once."""
    down = Receiver()
    async with down.up():
        await hook(db, new_account, down.url)
    async with Receiver().up() as other:
        await hook(db, new_account, other.url)
        for minute in range(61):
            if minute in (0, 20, 40):
                for key in {0: "ab", 20: "d", 40: ""}[minute]:
                    await learner.complete(key)
            await drain(relay)
            await owner.execute("update kernel.clock set shift = shift + interval '1 minute'")
        first = [json.loads(r.body)["id"] for r in other.got]
        assert len(first) == 3
        async with down.up():
            await owner.execute("update kernel.clock set shift = shift + interval '15 minutes'")
            await drain(relay)
            assert [json.loads(r.body)["id"] for r in down.got] == first
            assert [json.loads(r.body)["sequence"] for r in down.got] == [1, 2, 3]
            assert await outbox.dead_letters(db) == []


async def test_retry_after_is_kept(db, owner, relay, receiver, learner, new_account):
    await hook(db, new_account, receiver.url)
    receiver.answers = [(503, {"retry-after": "900"}), 204]
    await learner.complete("a")
    await learner.complete("b")
    await drain(relay)
    await owner.execute("update kernel.clock set shift = interval '14 minutes'")
    await drain(relay)
    assert len(receiver.got) == 1
    await owner.execute("update kernel.clock set shift = interval '16 minutes'")
    await drain(relay)
    one, two = receiver.got
    assert one.headers["webhook-id"] == two.headers["webhook-id"]


async def test_gone_is_a_dead_letter_and_a_redrive_keeps_order(
    db, relay, receiver, learner, new_account
):
    await hook(db, new_account, receiver.url)
    receiver.answers = [410, 204]
    for key in ("a", "b", "d"):
        await learner.complete(key)
    await drain(relay)
    assert len(receiver.got) == 1
    (letter,) = await outbox.dead_letters(db)
    assert (letter.channel, letter.behind) == ("webhook", 2)
    await outbox.decide(db, effect_id=letter.id, action="redrive", actor="admin")
    await drain(relay)
    ids = [r.headers["webhook-id"] for r in receiver.got]
    assert ids[0] == ids[1] == str(letter.source)
    assert [json.loads(r.body)["sequence"] for r in receiver.got] == [1, 1, 2, 3]


async def test_a_removed_webhook_gets_nothing_more(db, relay, receiver, learner, new_account):
    made, _ = await hook(db, new_account, receiver.url)
    receiver.answers = [503]
    await learner.complete("a")
    await learner.complete("b")
    await drain(relay)
    assert (await outbox.webhooks(db))[0].waiting == 1
    await outbox.remove_webhook(db, webhook_id=made, actor="admin")
    assert await outbox.webhooks(db) == []
    await learner.complete("d")
    await drain(relay)
    assert len(receiver.got) == 1


PRIVATE = [
    "http://example.org/in",
    "https://127.0.0.1/in",
    "https://localhost/in",
    "https://10.1.2.3/in",
    "https://172.16.0.1/in",
    "https://192.168.1.1/in",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/in",
    "https://0.0.0.0/in",
    "https://224.0.0.1/in",
    "https://[::1]/in",
    "https://[::ffff:127.0.0.1]/in",
    "https://[::ffff:10.0.0.1]/in",
    "https://[fe80::1]/in",
    "https://[fd00::1]/in",
    "https://[64:ff9b::7f00:1]/in",
    "https://[2002:7f00:1::]/in",
    "https://2130706433/in",
    "https://0x7f.1/in",
    "https://user:word@example.org/in",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "https:///in",
    "nonsense",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_refused(address):
    way = Outward()
    with pytest.raises((AddressForbidden, DeliveryFailed)) as caught:
        await way.judge(address)
    await way.close()
    if caught.type is DeliveryFailed:
        assert "cannot be resolved" in str(caught.value)


async def test_a_public_address_passes_and_the_judged_one_is_used(monkeypatch):
    way = Outward()
    judged = await way.judge("https://93.184.215.14:8443/in?x=1")
    assert str(judged) == "https://93.184.215.14:8443/in?x=1"
    await way.close()


async def test_a_redirect_is_not_followed(db, relay, receiver, learner, new_account):
    async with Receiver().up() as other:
        receiver.answers = [(302, {"location": other.url})]
        await hook(db, new_account, receiver.url)
        await learner.complete("a")
        await learner.complete("b")
        await drain(relay)
        assert len(receiver.got) == 1
        assert other.got == []


async def test_a_push_decrypts_with_the_browsers_keys(db, owner, relay, receiver, learner):
    browser = Browser()
    await browser.subscribe(db, learner.account, receiver.url)
    await owner.execute(
        "update accounts.account set locale = 'ru' where id = %s", [learner.account]
    )
    for key in ("a", "b", "d"):
        await learner.complete(key)
    await drain(relay)
    shown = [browser.read(r.body) for r in receiver.got]
    assert [s["title"] for s in shown] == [
        "День 1 пройден",
        "День 2 пройден",
        "Курс «C» пройден",
    ]
    assert shown[2]["body"] == "Позади 2 дня и все шаги. Отлично."
    assert shown[0]["url"] == f"/enrolments/{learner.id}"
    headers = receiver.got[0].headers
    assert headers["content-encoding"] == "aes128gcm"
    assert (headers["ttl"], headers["urgency"]) == ("86400", "normal")
    assert headers["authorization"].endswith(f"k={SENDER.public_key}")
    assert Vapid.verify(auth=headers["authorization"])


@pytest.mark.parametrize("status", [404, 410])
async def test_a_gone_browser_is_removed(db, relay, receiver, learner, status):
    await Browser().subscribe(db, learner.account, receiver.url)
    receiver.answers = [status]
    for key in ("a", "b", "d"):
        await learner.complete(key)
    await drain(relay)
    assert len(receiver.got) == 1
    assert await outbox.subscriptions(db, owners=[learner.account]) == []
    await drain(relay)
    assert await outbox.dead_letters(db) == []


async def test_quiet_hours(db, owner, relay, receiver, learner):
    """22:00 to 08:00 on the person's clock: it waits, counts no attempt, and comes at eight."""
    browser = Browser()
    await browser.subscribe(db, learner.account, receiver.url)
    await owner.execute(
        "update accounts.account set time_zone = 'Europe/Kyiv', quiet_hours = %s where id = %s",
        [json.dumps({"from": "22:00", "until": "08:00"}), learner.account],
    )
    await at(owner, "2026-07-01T23:00+03:00")
    await learner.complete("a")
    await learner.complete("b")
    for moment in ("2026-07-01T23:01+03:00", "2026-07-02T07:59+03:00"):
        await at(owner, moment)
        await drain(relay)
        assert receiver.got == []
    await at(owner, "2026-07-02T08:00:05+03:00")
    await drain(relay)
    assert len(receiver.got) == 1
    row = await (
        await owner.execute("select max(attempts) from outbox.effect where source is not null")
    ).fetchone()
    assert row == (1,)


async def test_a_reminder_held_by_quiet_hours_is_not_sent_when_it_is_done(
    db, owner, relay, receiver, learner
):
    await at(owner, "2026-07-01T12:00")
    await learner.complete("a")
    await Browser().subscribe(db, learner.account, receiver.url)
    await owner.execute(
        "update accounts.account set quiet_hours = %s where id = %s",
        [json.dumps({"from": "17:00", "until": "20:00"}), learner.account],
    )
    await at(owner, "2026-07-02T18:01")  # due at six, quiet until eight
    await drain(relay)
    await at(owner, "2026-07-02T19:00")
    await learner.complete("b")
    await at(owner, "2026-07-02T20:01")
    await drain(relay)
    sent = [r.headers["topic"] for r in receiver.got]
    assert len(sent) == 1, "the finished day alone"


async def test_an_aliass_news_reach_the_person(db, owner, relay, receiver, learner, new_account):
    person = await new_account()
    await Browser().subscribe(db, person, receiver.url)
    await owner.execute(
        "update accounts.account set status = 'LINKED', alias_of = %s where id = %s",
        [person, learner.account],
    )
    await learner.complete("a")
    await learner.complete("b")
    await drain(relay)
    assert len(receiver.got) == 1


async def test_an_erased_person_is_told_nothing(db, owner, relay, receiver, learner):
    await Browser().subscribe(db, learner.account, receiver.url)
    await learner.skip("a", "private matters")
    await learner.complete("b")
    await owner.execute(
        "update accounts.account set status = 'ERASED' where id = %s", [learner.account]
    )
    await drain(relay)
    assert receiver.got == []
    assert await outbox.timers(db, stream=learner.account) == []
    row = await (await owner.execute("select max(skip_reason) from courses.step")).fetchone()
    assert row == ("",)


async def test_the_same_endpoint_is_one_browser_and_twenty_are_the_most(db, learner):
    browser = Browser()
    one = await browser.subscribe(db, learner.account, "https://push.example.org/1")
    assert await browser.subscribe(db, learner.account, "https://push.example.org/1") == one
    for n in range(2, 25):
        await browser.subscribe(db, learner.account, f"https://push.example.org/{n}")
    kept = await outbox.subscriptions(db, owners=[learner.account])
    assert [b.endpoint.rpartition("/")[2] for b in kept] == [str(n) for n in range(24, 4, -1)]


async def test_every_kind_has_its_texts_in_every_language(db):
    kinds = await outbox.kinds(db)
    assert {k.topic for k in kinds} >= {"courses.day_finished", "courses.reminder"}
    for kind in kinds:
        for locale in messages.LOCALES:
            for part in ("title", "body"):
                key = f"notice.{kind.topic}.{part}"
                facts = {"day": 1, "days": 3, "title": "T", "streak": 2}
                assert messages.translator(locale).text(key, facts) != key


def test_the_key_is_the_same_in_every_process_and_can_be_given():
    again = Sender.of(None, b"secret of a test", "mailto:test@example.org")
    assert again.public_key == SENDER.public_key
    given = Vapid()
    given.generate_keys()
    raw = given.private_key.private_numbers().private_value.to_bytes(32, "big")
    text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    public = given.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    sender = Sender.of(text, b"", "mailto:test@example.org")
    assert base64.urlsafe_b64decode(sender.public_key + "=") == public
