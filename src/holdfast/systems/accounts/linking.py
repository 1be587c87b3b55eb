"""Linking: a device's account and a person's become one."""

from dataclasses import dataclass
from uuid import UUID

from holdfast.errors import LinkSecretInvalid, LinkTaken, refusal
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.accounts.identity import Kind, device_proof


@dataclass(frozen=True, slots=True)
class Moved:
    """What came over: `tokens` net of a second bonus; the rest counts live holds and rows."""

    tokens: int
    holds: int
    jobs: int
    orders: int
    projects: int
    enrolments: int


@dataclass(frozen=True, slots=True)
class Linked:
    """A link. `account_id` is the one account now; `bonus_kept`: the device's bonus survived."""

    account_id: UUID
    moved: Moved
    bonus_kept: bool


async def link(
    db: Handle,
    *,
    kind: Kind,
    subject: str,
    device_id: str,
    secret: str,
    dry_run: bool = False,
    request_id: str | None = None,
) -> Linked:
    """Make a device's account and the account of (kind, subject) one person's.

    Repeating it changes nothing. Raises NotFound (no such device), LinkSecretInvalid, LinkTaken
    (the device is somebody else's), DeviceIdInvalid, DeviceSecretMalformed.
    """
    row = await call_one(
        db,
        """select * from accounts.link(kind => %(kind)s, subject => %(subject)s,
            device => %(device)s, secret => %(secret)s, dry => %(dry)s,
            request_id => %(request)s)""",
        {
            "kind": kind,
            "subject": subject,
            "device": device_id,
            "secret": device_proof(device_id, secret),
            "dry": dry_run,
            "request": request_id,
        },
    )
    match row["code"]:
        case "ok":
            return Linked(row["account_id"], Moved(**row["moved"]), bool(row["bonus_kept"]))
        case "device_secret_invalid":
            raise LinkSecretInvalid
        case "device_linked":
            raise LinkTaken
        case code:
            raise refusal(code)
