"""Roles are kept in the database; no token's claim raises one."""

from uuid import UUID

from holdfast.errors import refusal
from holdfast.postgres.call import call_one
from holdfast.postgres.pool import Handle
from holdfast.systems.accounts.identity import Role


async def set_role(
    owner: Handle, *, account_id: UUID, role: Role, actor: str, request_id: str | None = None
) -> None:
    """Give an account a role, audited. Needs the owner's connection. Raises NotFound."""
    row = await call_one(
        owner,
        """select accounts._set_role(account => %(account)s, new_role => %(role)s,
            actor => %(actor)s, request => %(request)s) as code""",
        {"account": account_id, "role": role, "actor": actor, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])


async def change_role(
    db: Handle, *, account_id: UUID, role: Role, admin_id: UUID, request_id: str | None = None
) -> None:
    """Give an account a role, as an admin, audited. Raises Forbidden for anybody else, NotFound."""
    row = await call_one(
        db,
        """select accounts.change_role(account => %(account)s, new_role => %(role)s,
            admin => %(admin)s, request => %(request)s) as code""",
        {"account": account_id, "role": role, "admin": admin_id, "request": request_id},
    )
    if row["code"] != "ok":
        raise refusal(row["code"])
