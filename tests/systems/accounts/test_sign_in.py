"""One account per person however many calls arrive at once, one wallet, one bonus, ever."""

import asyncio
import re
import tempfile
from dataclasses import replace

import psycopg
import pytest

from holdfast.errors import (
    DeviceIdInvalid,
    DeviceSecretInvalid,
    DeviceSecretMalformed,
    DeviceSecretRequired,
    Forbidden,
    NotFound,
    RateLimited,
)
from holdfast.kernel import ledger
from holdfast.kernel.prelude import new_id
from holdfast.postgres.combine import submit_many
from holdfast.postgres.pool import Database
from holdfast.systems import accounts
from holdfast.systems.accounts.identity import SIGN_IN

SECRET, OTHER = "s" * 40, "t" * 40
DEVICE = "device-0001"


async def number(owner: psycopg.AsyncConnection, query: str) -> int:
    row = await (await owner.execute(query)).fetchone()
    return int(row[0])


async def entries(db: Database, account_id: object) -> list[tuple[str, int]]:
    found = await ledger.transactions(db, account_id=account_id)
    return [(entry.cause, entry.amount) for entry in found]


async def test_new_then_old(db):
    new = await accounts.sign_in(db, kind="clerk", subject="user_1", name="Ann")
    old = await accounts.sign_in(db, kind="clerk", subject="user_1")
    assert (new.created, new.balance, new.name, new.role) == (True, 100, "Ann", "user")
    assert (old.created, old.balance, old.id) == (False, 100, new.id)
    assert old.family == (new.id,)
    assert await entries(db, new.id) == [("grant:welcome", 100)]


async def statements(app_url: str, subject: str) -> int:
    """Sign in on a fresh connection and count what libpq itself says that it sent."""
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as connection:
        with tempfile.TemporaryFile("w+") as log:
            connection.pgconn.trace(log.fileno())
            await accounts.sign_in(connection, kind="clerk", subject=subject)
            connection.pgconn.untrace()
            log.seek(0)
            sent = re.findall(r"^[^\t]+\tF\t\d+\t(\w+)", log.read(), re.MULTILINE)
    assert "Query" not in sent
    return sent.count("Execute")


async def test_one_statement_for_a_new_account_and_one_for_an_old(app_url):
    assert await statements(app_url, "user_1") == 1
    assert await statements(app_url, "user_1") == 1


@pytest.mark.parametrize("pool", ["db", "combined"])
@pytest.mark.parametrize("kind", ["clerk", "device"])
async def test_fifty_first_calls_make_one_account(db, combined, app_url, owner, kind, pool):
    """Each on a connection of its own (or combined): the identity's key decides."""
    db = db if pool == "db" else combined
    secret = SECRET if kind == "device" else None

    async def call() -> accounts.Account:
        if pool == "combined":
            return await accounts.sign_in(db, kind=kind, subject=DEVICE, secret=secret)
        async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as connection:
            return await accounts.sign_in(connection, kind=kind, subject=DEVICE, secret=secret)

    found = await asyncio.gather(*[call() for _ in range(50)])
    assert len({account.id for account in found}) == 1
    assert sum(account.created for account in found) == 1
    assert await number(owner, "select count(*) from accounts.account") == 1
    assert await entries(db, found[0].id) == [("grant:welcome", 100)]


async def before_there_were_bonuses(owner: psycopg.AsyncConnection) -> object:
    """Make an account as it was before wallets, streams and bonuses."""
    account = new_id(7)
    async with owner.transaction():
        await owner.execute("alter table accounts.account disable trigger welcome")
        await owner.execute("insert into accounts.account (bucket, id) values (7, %s)", [account])
        await owner.execute("alter table accounts.account enable trigger welcome")
        await owner.execute(
            "insert into accounts.identity (bucket, kind, subject, account_id, created_at)"
            " values (accounts._bucket('clerk', 'old'), 'clerk', 'old', %s, kernel.now())",
            [account],
        )
    return account


@pytest.mark.parametrize("pool", ["db", "combined"])
async def test_fifty_calls_of_an_old_account_pay_one_bonus(db, combined, owner, pool):
    db = db if pool == "db" else combined
    account = await before_there_were_bonuses(owner)
    calls = [accounts.sign_in(db, kind="clerk", subject="old") for _ in range(50)]
    found = await asyncio.gather(*calls)
    assert {(a.id, a.created, a.balance) for a in found} == {(account, False, 100)}
    assert await entries(db, account) == [("grant:welcome", 100)]


async def test_ensure_welcome_bonus_pays_once(db, owner):
    account = await before_there_were_bonuses(owner)
    for _ in range(2):
        assert await accounts.ensure_welcome_bonus(db, account_id=account)
    assert await entries(db, account) == [("grant:welcome", 100)]
    with pytest.raises(NotFound):
        await accounts.ensure_welcome_bonus(db, account_id=new_id(3))


async def test_a_plain_insert_by_the_application_gets_wallet_and_bonus(db, app_url):
    account = new_id(9)
    async with await psycopg.AsyncConnection.connect(app_url, autocommit=True) as connection:
        await connection.execute(
            "insert into accounts.account (bucket, id) values (9, %s)", [account]
        )
    assert (await accounts.get(db, account_id=account)).balance == 100
    assert await entries(db, account) == [("grant:welcome", 100)]


async def test_several_plain_inserts_in_one_statement_each_get_what_is_theirs(db, owner):
    people = [new_id(n) for n in (1, 2, 3)]
    await owner.execute(
        "insert into accounts.account (bucket, id, locale, time_zone, quiet_hours, welcome_due)"
        ' values (1, %s, \'uk\', \'Europe/Kyiv\', \'{"from": "22:00", "until": "07:00"}\', true),'
        " (2, %s, 'en', 'Mars/Olympus', null, true), (3, %s, 'ru', 'UTC', null, false)",
        people,
    )
    balances = [(await accounts.get(db, account_id=one)).balance for one in people]
    assert balances == [100, 100, 0]
    read = await owner.execute(
        "select r.locale, r.time_zone, r.quiet_from::text, s.stream = r.account_id"
        " from outbox.reader r join outbox.stream s on s.stream = r.account_id order by r.bucket"
    )
    assert await read.fetchall() == [
        ("uk", "Europe/Kyiv", "22:00:00", True), ("en", "UTC", None, True),
        ("ru", "UTC", None, True),
    ]  # fmt: skip


async def test_a_first_sign_in_says_what_the_next_one_reads(db):
    for name in (None, "Ann"):
        new = await accounts.sign_in(db, kind="clerk", subject=f"user_{name}", name=name)
        read = await accounts.sign_in(db, kind="clerk", subject=f"user_{name}", name=name)
        assert replace(new, created=False) == read == await accounts.get(db, account_id=new.id)


async def test_one_named_twice_beside_others_in_one_call_is_made_once(db):
    named = ["ann", "bob", "ann", "kim", "bob", "ann"]
    member = {"kinds": "clerk", "names": None, "secrets": None, "required": True,
              "may_create": True, "impersonators": None, "sessions": None}  # fmt: skip
    rows = await submit_many(db, SIGN_IN, [member | {"subjects": who} for who in named])
    assert {row["code"] for row in rows} == {"ok"}
    assert [row["created"] for row in rows] == [True, True, False, True, False, False]
    ids = {who: row["account_id"] for who, row in zip(named, rows, strict=True)}
    assert [row["account_id"] for row in rows] == [ids[who] for who in named]
    assert len(set(ids.values())) == 3
    assert {row["balance"] for row in rows} == {100}


async def test_an_update_fires_nothing(db, owner):
    account = await accounts.sign_in(db, kind="clerk", subject="user_1")
    fired = await number(
        owner,
        "select count(*) from pg_trigger where tgrelid = 'accounts.account'::regclass"
        " and tgfoid = 'accounts.welcome'::regproc and tgtype & 16 > 0",  # bit 4: UPDATE
    )
    assert fired == 0
    before = await number(owner, "select seq from ledger.wallet")
    await owner.execute("update accounts.account set name = 'Ann', locale = 'uk'")
    assert await number(owner, "select seq from ledger.wallet") == before
    assert await entries(db, account.id) == [("grant:welcome", 100)]


async def test_a_failing_bonus_does_not_abort_the_sign_up_and_is_paid_later(db, owner, caplog):
    setting = "update kernel.setting set value = %s where name = 'welcome_bonus'"
    await owner.execute(setting, ["no number"])
    new = await accounts.sign_in(db, kind="clerk", subject="user_1")
    assert (new.created, new.balance) == (True, 0)
    assert "welcome bonus" in caplog.text
    assert (await accounts.sign_in(db, kind="clerk", subject="user_1")).balance == 0
    await owner.execute(setting, ["70"])
    assert (await accounts.sign_in(db, kind="clerk", subject="user_1")).balance == 70
    assert await entries(db, new.id) == [("grant:welcome", 70)]


async def test_another_text_or_amount_of_the_bonus_pays_nobody_again(db, owner):
    """What is shown to people is rendered from the kind; the key is the person and 'welcome'."""
    account = await accounts.sign_in(db, kind="clerk", subject="user_1")
    await owner.execute("update kernel.setting set value = '500' where name = 'welcome_bonus'")
    await owner.execute("update accounts.account set locale = 'uk', name = 'Ганна'")
    await owner.execute("update ledger.lot set cause = 'вітальний бонус'")
    assert (await accounts.sign_in(db, kind="clerk", subject="user_1")).balance == 100
    assert await accounts.ensure_welcome_bonus(db, account_id=account.id)
    assert await entries(db, account.id) == [("grant:welcome", 100)]


async def test_a_device_proves_itself_by_the_secret_of_its_first_call(db):
    first = await accounts.sign_in(db, kind="device", subject=DEVICE, secret=SECRET)
    again = await accounts.sign_in(db, kind="device", subject=DEVICE, secret=SECRET)
    assert (first.id, first.created, again.created) == (again.id, True, False)
    with pytest.raises(DeviceSecretInvalid):
        await accounts.sign_in(db, kind="device", subject=DEVICE, secret=OTHER)
    with pytest.raises(DeviceSecretRequired):
        await accounts.sign_in(db, kind="device", subject=DEVICE)


async def test_a_guessed_device_is_no_account(db, owner):
    with pytest.raises(DeviceSecretRequired):
        await accounts.sign_in(db, kind="device", subject=DEVICE)
    for wrong in ("short", "x" * 129):
        with pytest.raises(DeviceSecretMalformed):
            await accounts.sign_in(db, kind="device", subject=DEVICE, secret=wrong)
    for wrong in ("short", "x" * 129, "with blank inside", "новий-пристрій"):
        with pytest.raises(DeviceIdInvalid):
            await accounts.sign_in(db, kind="device", subject=wrong, secret=SECRET)
    assert await number(owner, "select count(*) from accounts.identity") == 0


async def test_the_secret_is_stored_as_a_hash(db, owner):
    await accounts.sign_in(db, kind="device", subject=DEVICE, secret=SECRET)
    query = "select count(*) from accounts.identity i where i::text like '%sssss%'"
    assert await number(owner, query) == 0
    assert await number(owner, "select length(secret_hash) from accounts.identity") == 32


async def test_an_old_client_may_come_by_its_id_alone_until_it_brings_a_secret(db):
    async def come(secret: str | None) -> accounts.Account:
        return await accounts.sign_in(
            db, kind="device", subject=DEVICE, secret=secret, secret_required=False
        )

    first = await come(None)
    assert (await come(None)).id == first.id
    assert (await come(SECRET)).id == first.id
    with pytest.raises(DeviceSecretRequired):
        await come(None)
    with pytest.raises(DeviceSecretInvalid):
        await come(OTHER)


async def test_who_is_new_is_refused_where_accounts_are_not_made_now(db):
    with pytest.raises(RateLimited):
        await accounts.sign_in(db, kind="clerk", subject="user_1", may_create=False)
    await accounts.sign_in(db, kind="clerk", subject="user_1")
    assert await accounts.sign_in(db, kind="clerk", subject="user_1", may_create=False)


async def test_impersonation_is_audited_once_a_session_with_both_ids(db, owner):
    for session in ("s1", "s1", "s2"):
        account = await accounts.sign_in(
            db, kind="clerk", subject="user_1", impersonator="user_admin", session=session
        )
    query = "select entity_id, actor, new_value from audit.event order by new_value"
    found = await (await owner.execute(query)).fetchall()
    assert found == [(account.id, "user_admin", "s1"), (account.id, "user_admin", "s2")]


async def test_roles_are_given_by_the_owner_or_an_admin_and_audited(db, owner):
    admin = await accounts.sign_in(db, kind="clerk", subject="admin")
    user = await accounts.sign_in(db, kind="clerk", subject="user")
    with pytest.raises(Forbidden):
        await accounts.change_role(db, account_id=user.id, role="admin", admin_id=user.id)
    await accounts.set_role(owner, account_id=admin.id, role="admin", actor="owner")
    await accounts.change_role(db, account_id=user.id, role="operator", admin_id=admin.id)
    assert (await accounts.sign_in(db, kind="clerk", subject="user")).role == "operator"
    with pytest.raises(NotFound):
        await accounts.change_role(db, account_id=new_id(1), role="user", admin_id=admin.id)
    query = "select actor, old_value, new_value from audit.event order by at"
    assert await (await owner.execute(query)).fetchall() == [
        ("owner", "user", "admin"),
        (str(admin.id), "user", "operator"),
    ]


async def test_people_describe_themselves(db):
    account = await accounts.sign_in(db, kind="clerk", subject="user_1", name="Ann")
    quiet = {"from": "22:00", "to": "07:00"}
    changes = {"name": None, "locale": "uk", "time_zone": "Europe/Kyiv", "quiet_hours": quiet}
    await accounts.describe(db, account_id=account.id, changes=changes)
    now = await accounts.get(db, account_id=account.id)
    assert (now.name, now.locale, now.time_zone) == (None, "uk", "Europe/Kyiv")
    assert now.quiet_hours == quiet
    await accounts.describe(db, account_id=account.id, changes={"quiet_hours": None})
    now = await accounts.get(db, account_id=account.id)
    assert (now.quiet_hours, now.locale) == (None, "uk")
    with pytest.raises(NotFound):
        await accounts.describe(db, account_id=new_id(1), changes={})
