"""The ledger against a plain Python model: whatever is done in whatever order, they agree."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from holdfast.errors import HoldfastError
from holdfast.kernel import verify
from holdfast.kernel.ledger.verbs import CHARGE
from holdfast.postgres.call import run_sync
from holdfast.postgres.combine import submit_many
from holdfast.sync import accounts, ledger

WELCOME, GRACE_HOURS = 100, 72
SECRET = "s" * 40
WHOM = st.sampled_from([0, 0, 1])  # 0: the device that may be linked, 1: the person
AMOUNTS = st.one_of(st.integers(1, 40), st.integers(1, 200))


@dataclass
class Lot:
    left: int
    kind: str = "bought"
    end: datetime | None = None
    priority: int = 0
    held: int = 0


@dataclass
class Held:
    lots: list  # (lot, how much)
    end: datetime
    open: bool = True

    @property
    def amount(self):
        return sum(part for _, part in self.lots)


@dataclass
class Purse:
    """A wallet as lots in the order in which they were made; Python's sort keeps it."""

    lots: list = field(default_factory=list)
    holds: list = field(default_factory=list)

    @property
    def balance(self):
        return sum(lot.left for lot in self.lots)

    @property
    def held(self):
        return sum(lot.held for lot in self.lots)

    @property
    def free(self):
        return self.balance - self.held

    def pick(self, amount):
        """Which lots give how much, in burning order; None where there is too little."""
        if amount > self.free:
            return None
        picked = []
        for lot in sorted(self.lots, key=burning):
            part = min(lot.left - lot.held, amount)
            if part:
                picked.append((lot, part))
                amount -= part
        return picked

    def expire(self, now):
        for hold in self.holds:
            if hold.open and hold.end <= now:
                self.finish(hold, 0)
        for lot in self.lots:
            if lot.end and lot.end <= now:
                lot.left = lot.held

    def finish(self, hold, taken):
        """End a hold; returns what it burned of which lots."""
        hold.open = False
        burned = []
        for lot, part in sorted(hold.lots, key=lambda pair: burning(pair[0])):
            lot.held -= part
            used = min(part, taken)
            lot.left -= used
            taken -= used
            burned.append((lot, used))
        return burned

    def give_back(self, burned, now):
        for lot, part in burned:
            lot.left += part
            if part and lot.end and lot.end <= now:
                lot.end = now + timedelta(hours=GRACE_HOURS)


def burning(lot):
    return (lot.priority, lot.end is None, lot.end.timestamp() if lot.end else 0,
            lot.kind == "bought")  # fmt: skip


class Ledger(RuleBasedStateMachine):
    """`links` (set by the test): a connection as the application, and the owner's."""

    links: tuple = ()
    names = count()

    @initialize()
    def begin(self):
        self.db, self.owner = self.links
        self.name = f"machine-{next(self.names):06}"
        device = accounts.sign_in(self.db, kind="device", subject=self.name, secret=SECRET)
        person = accounts.sign_in(self.db, kind="clerk", subject=self.name)
        self.ids: list[UUID] = [device.id, person.id]
        self.purses = [Purse([Lot(WELCOME, "welcome")]) for _ in self.ids]
        self.linked = False
        self.keys = count()
        self.charges = []  # (whose, entry, burned, refunded)
        self.open_holds = []  # (whose, id, Held), ended ones too

    # What the model shares with every verb: time first, and alias's wallets are emptied.

    @property
    def now(self):
        return self.owner.execute("select kernel.now() as now").fetchone()["now"]

    def key(self):
        return f"k{next(self.keys)}"

    def attempt(self, verb, **named):
        """Return (code, what the verb returned)."""
        try:
            return "ok", verb(self.db, **named)
        except HoldfastError as refused:
            return refused.code, None

    def due(self, *whose):
        now = self.now
        for who in whose:
            self.purses[who].expire(now)
        return now

    @rule(who=WHOM, amount=AMOUNTS, hours=st.sampled_from([1, 5, 100, None]),
          priority=st.integers(0, 1), kind=st.sampled_from(["bought", "promotional"]))  # fmt: skip
    def grant(self, who, amount, hours, priority, kind):
        end = None if hours is None else self.now + timedelta(hours=hours)
        named = {"account_id": self.ids[who], "amount": amount, "key": self.key(), "kind": kind}
        for _ in range(2):  # the second is the same one
            ledger.grant(self.db, **named, expires_at=end, priority=priority)
        self.purses[who].lots.append(Lot(amount, kind, end, priority))

    @rule(who=WHOM, amount=AMOUNTS, again=st.booleans())
    def charge(self, who, amount, again):
        self.due(who)
        named = {"account_id": self.ids[who], "amount": amount, "key": self.key()}
        code, made = self.attempt(ledger.charge, **named)
        assert code == self.charged(who, amount, made and made.entry_id)
        if again and code == "ok":
            assert self.attempt(ledger.charge, **named)[1].entry_id == made.entry_id

    def charged(self, who, amount, entry):
        burned = self.purses[who].pick(amount)
        if burned is None:
            return "insufficient_tokens"
        for lot, part in burned:
            lot.left -= part
        self.charges.append([who, entry, burned, False])
        return "ok"

    @rule(members=st.lists(st.tuples(WHOM, AMOUNTS), min_size=2, max_size=6))
    def charge_a_batch(self, members):
        self.due(*{who for who, _ in members})
        asked = [
            {"accounts": self.ids[who], "amounts": amount, "keys": self.key(), "causes": None,
             "request_ids": None}
            for who, amount in members
        ]  # fmt: skip
        rows = run_sync(submit_many(self.db, CHARGE, asked))
        for (who, amount), row in zip(members, rows, strict=True):
            assert row["code"] == self.charged(who, amount, row["entry_id"])

    @rule(who=WHOM, amount=AMOUNTS, hours=st.sampled_from([1, 3, 50]))
    def hold(self, who, amount, hours):
        now = self.due(who)
        code, made = self.attempt(ledger.hold, account_id=self.ids[who], amount=amount,
                                  ttl=hours * 3600, cause="work", key=self.key())  # fmt: skip
        purse = self.purses[who]
        reserved = purse.pick(amount)
        assert code == ("insufficient_tokens" if reserved is None else "ok")
        if reserved is not None:
            for lot, part in reserved:
                lot.held += part
            purse.holds.append(Held(reserved, now + timedelta(hours=hours)))
            self.open_holds.append((who, made.id, purse.holds[-1]))

    @rule(which=st.integers(0, 9), share=st.sampled_from([0.0, 0.5, 1.0, 1.5]))
    def capture(self, which, share):
        if not self.open_holds:
            return
        who, hold_id, held = self.open_holds[-1 - which % len(self.open_holds)]
        taken = max(1, int(held.amount * share))
        self.due(who)
        code, _ = self.attempt(ledger.capture, hold_id=hold_id, amount=taken)
        if not held.open:
            assert code == "hold_finished"
        elif taken > held.amount:
            assert code == "capture_exceeds_hold"
        else:
            assert code == "ok"
            burned = self.purses[who].finish(held, taken)
            entry = self.owner.execute(
                "select id from ledger.entry where kind = 'capture' and cause = %s",
                [f"hold:{hold_id}"],
            ).fetchone()["id"]
            self.charges.append([who, entry, burned, False])

    @rule(which=st.integers(0, 9))
    def release(self, which):
        if not self.open_holds:
            return
        who, hold_id, held = self.open_holds[-1 - which % len(self.open_holds)]
        self.due(who)
        code, _ = self.attempt(ledger.release, hold_id=hold_id)
        assert code == ("ok" if held.open else "hold_finished")
        if held.open:
            self.purses[who].finish(held, 0)

    @rule(which=st.integers(0, 9))
    def refund(self, which):
        if not self.charges:
            return
        charge = self.charges[-1 - which % len(self.charges)]
        who, entry, burned, before = charge
        now = self.due(who)
        given = ledger.refund(self.db, account_id=self.ids[who], entry_id=entry, reason="broken")
        assert given is not before
        if given:
            charge[3] = True
            self.purses[who].give_back(burned, now)

    @rule(who=WHOM, amount=AMOUNTS, late=st.sampled_from([2, 10]),
          later=st.sampled_from([0.5, 10, 80]))  # fmt: skip
    def refund_what_has_ended(self, who, amount, late, later):
        """Rare when left to chance: credit that ended between its charge and its refund."""
        self.grant(who, amount, 1, 0, "promotional")
        self.charge(who, amount, False)
        self.time_passes(late)
        self.refund(0)
        self.equals_the_model()
        self.time_passes(later)
        self.sweep()

    @rule(who=WHOM, amount=st.integers(-80, 80).filter(bool))
    def adjust(self, who, amount):
        self.due(who)
        code, _ = self.attempt(ledger.adjust, account_id=self.ids[who], amount=amount,
                               reason="model", key=self.key(), actor="admin")  # fmt: skip
        purse = self.purses[who]
        burned = purse.pick(-amount) if amount < 0 else []
        assert code == ("balance_below_floor" if burned is None else "ok")
        if amount > 0:
            purse.lots.append(Lot(amount))
        for lot, part in burned or []:
            lot.left -= part

    @rule(hours=st.sampled_from([0.5, 2, 10, 80]))
    def time_passes(self, hours):
        self.owner.execute(
            "update kernel.clock set shift = shift + make_interval(secs => %s)", [hours * 3600]
        )

    @rule()
    def sweep(self):
        ledger.sweep(self.db)
        self.due(0, 1)

    @rule()
    def link(self):
        named = {"kind": "clerk", "subject": self.name, "device_id": self.name, "secret": SECRET}
        told = accounts.link(self.db, **named, dry_run=True)
        assert accounts.link(self.db, **named).account_id == self.ids[1]
        assert told.account_id == self.ids[1]
        if not self.linked:
            self.due(0, 1)
            for lot in self.purses[0].lots:
                if lot.kind == "welcome":
                    lot.left = lot.held  # a second bonus goes back, as far as it is free
            assert told.moved.tokens == self.purses[0].free
            self.bring()
            self.linked = True

    @rule()
    def forward(self):
        free = self.purses[0].free
        if self.linked:
            self.due(0, 1)
            free = self.purses[0].free
        moved = ledger.forward(self.db, account_id=self.ids[0])
        assert moved == (free if self.linked else 0)
        if self.linked:
            self.bring()

    def bring(self):
        source, target = self.purses
        for lot in source.lots:
            if free := lot.left - lot.held:
                target.lots.append(Lot(free, lot.kind, lot.end, lot.priority))
                lot.left = lot.held

    @invariant()
    def equals_the_model(self):
        for account, purse in zip(self.ids, self.purses, strict=True):
            seen = ledger.wallet_of(self.db, account_id=account)
            assert (seen.balance, seen.held, seen.available) == (
                purse.balance, purse.held, purse.free)  # fmt: skip

    def teardown(self):
        if hasattr(self, "ids"):
            broken = [found for found in run_sync(verify.run(self.db)) if found.violations]
            assert broken == []


def test_every_verb_in_any_order(app_url, owner_url):
    with (
        psycopg.connect(app_url, autocommit=True, row_factory=dict_row) as db,
        psycopg.connect(owner_url, autocommit=True, row_factory=dict_row) as owner,
    ):
        Ledger.links = (db, owner)
        run_state_machine_as_test(
            Ledger,
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
