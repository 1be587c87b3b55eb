"""Accounts: who is asking, one account per person, one wallet, one welcome bonus."""

from holdfast.systems.accounts.erasure import erase, forget
from holdfast.systems.accounts.identity import (
    ROLES,
    Account,
    Kind,
    Role,
    describe,
    device_proof,
    ensure_welcome_bonus,
    get,
    sign_in,
)
from holdfast.systems.accounts.linking import Linked, Moved, link
from holdfast.systems.accounts.roles import change_role, set_role

__all__ = [
    "ROLES",
    "Account",
    "Kind",
    "Linked",
    "Moved",
    "Role",
    "change_role",
    "describe",
    "device_proof",
    "ensure_welcome_bonus",
    "erase",
    "forget",
    "get",
    "link",
    "set_role",
    "sign_in",
]
