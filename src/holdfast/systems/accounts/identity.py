"""Who is asking: sign-in, and what an account says about its person."""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from psycopg.types.json import Jsonb

from holdfast.errors import DeviceIdInvalid, DeviceSecretMalformed, NotFound, refusal
from holdfast.postgres.call import call, call_one
from holdfast.postgres.combine import BatchVerb
from holdfast.postgres.combine import submit as combined
from holdfast.postgres.pool import Handle, Row

Kind: TypeAlias = Literal["clerk", "device", "dev"]
Role: TypeAlias = Literal["user", "operator", "supervisor", "admin"]
ROLES: tuple[Role, ...] = ("user", "operator", "supervisor", "admin")

_DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{10,128}")
_SECRET_SHORTEST, _SECRET_LONGEST = 32, 128  # characters

_log = logging.getLogger(__name__)

SIGN_IN = BatchVerb(
    name="accounts.sign_in",
    sql="""select * from accounts.sign_in(kinds => %(kinds)b::text[],
        subjects => %(subjects)b::text[], names => %(names)b::text[],
        secrets => %(secrets)b::bytea[], required => %(required)b::boolean[],
        may_create => %(may_create)b::boolean[], impersonators => %(impersonators)b::text[],
        sessions => %(sessions)b::text[], wait => %(wait)s)""",
    columns=(
        "kinds",
        "subjects",
        "names",
        "secrets",
        "required",
        "may_create",
        "impersonators",
        "sessions",
    ),
    by="subjects",
)


@dataclass(frozen=True, slots=True)
class Account:
    """One account and its wallet of crystals. `created` is true for the sign-in that made it.

    `family` is the account's id, then those of the accounts that were linked to it: what belongs
    to any of them is this person's.
    """

    id: UUID
    status: str
    role: Role
    name: str | None
    locale: str
    time_zone: str
    quiet_hours: dict[str, Any] | None
    created_at: datetime
    balance: int
    held: int
    family: tuple[UUID, ...]
    created: bool = False

    @property
    def available(self) -> int:
        """What can be spent: the balance without what holds reserve."""
        return self.balance - self.held


def _account(row: Row) -> Account:
    return Account(
        id=row["account_id"],
        status=row["status"],
        role=row["role"],
        name=row["name"],
        locale=row["locale"],
        time_zone=row["time_zone"],
        quiet_hours=row["quiet_hours"],
        created_at=row["created_at"],
        balance=row["balance"],
        held=row["held"],
        family=tuple(row["family"]),
        created=row.get("created", False),
    )


def device_proof(device_id: str, secret: str | None) -> bytes | None:
    """Return what is stored of a device's secret: a hash, bound to the device.

    The secret is long and random, so a slow hash would protect nothing. Raises DeviceIdInvalid
    or DeviceSecretMalformed.
    """
    if not _DEVICE_ID.fullmatch(device_id):
        raise DeviceIdInvalid
    if secret is None:
        return None
    if not _SECRET_SHORTEST <= len(secret) <= _SECRET_LONGEST:
        raise DeviceSecretMalformed
    return hashlib.sha256(f"{device_id}\n{secret}".encode()).digest()


async def sign_in(
    db: Handle,
    *,
    kind: Kind,
    subject: str,
    name: str | None = None,
    secret: str | None = None,
    secret_required: bool = True,
    may_create: bool = True,
    impersonator: str | None = None,
    session: str | None = None,
) -> Account:
    """Return the account of a verified identity; made, with wallet and bonus, when it is new.

    One round trip either way. A device (its id is the subject) shows its `secret`, of 32-128
    characters, registered by its first call; `secret_required=False` also takes devices that never
    had one. `may_create=False` refuses who is new. `impersonator`, who looks through this person's
    eyes, is audited once per `session`.

    Raises DeviceIdInvalid, DeviceSecretMalformed, DeviceSecretRequired, DeviceSecretInvalid,
    DeviceLinked, RateLimited.
    """
    member = {
        "kinds": kind,
        "subjects": subject,
        "names": name,
        "secrets": device_proof(subject, secret) if kind == "device" else None,
        "required": secret_required,
        "may_create": may_create,
        "impersonators": impersonator,
        "sessions": session,
    }
    row = await combined(db, SIGN_IN, member)
    if row["code"] != "ok":
        raise refusal(row["code"])
    if not row["welcomed"]:
        _log.warning("welcome bonus of account %s not paid yet", row["account_id"])
    return _account(row)


async def ensure_welcome_bonus(db: Handle, *, account_id: UUID) -> bool:
    """Pay the welcome bonus of an account made before there were any; with its wallet, once.

    Tells whether the account has had its bonus, now or before. Raises NotFound.
    """
    row = await call_one(
        db,
        "select accounts.ensure_welcome_bonus(account => %(account)s) as paid",
        {"account": account_id},
    )
    if row["paid"] is None:
        raise NotFound
    return bool(row["paid"])


async def get(db: Handle, *, account_id: UUID) -> Account:
    """Return one account. Raises NotFound."""
    rows = await call(
        db, "select * from accounts.get(account => %(account)s)", {"account": account_id}
    )
    if not rows:
        raise NotFound
    return _account(rows[0])


async def describe(db: Handle, *, account_id: UUID, changes: Mapping[str, Any]) -> None:
    """Change what a person says about himself: `name`, `locale`, `time_zone`, `quiet_hours`.

    Only what `changes` names; a name or quiet hours of None are taken away. Raises NotFound.
    """
    row = await call_one(
        db,
        "select accounts.describe(account => %(account)s, changes => %(changes)s) as code",
        {"account": account_id, "changes": Jsonb(dict(changes))},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
