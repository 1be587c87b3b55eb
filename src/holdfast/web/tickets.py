"""Tickets for event streams: a browser's EventSource sends no headers, so the address must do.

A ticket is signed, not stored: it names the account and its end, and is good for 60 seconds, as
often as a reconnecting browser needs it within them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request

from holdfast.errors import NotFound, TicketInvalid
from holdfast.systems import accounts
from holdfast.web.actor import Caller, identify, known
from holdfast.web.signing import Signer

LIFE = 60  # seconds
_PURPOSE = "ticket"


def issue(signer: Signer, account_id: UUID) -> tuple[str, datetime]:
    """Return a ticket of an account and when it ends."""
    ends = int(time.time()) + LIFE
    return signer.seal(_PURPOSE, [str(account_id), ends]), datetime.fromtimestamp(ends, UTC)


async def watcher(
    request: Request,
    ticket: Annotated[
        str | None, Query(max_length=2000, description="From POST /api/tickets.")
    ] = None,
) -> Caller:
    """Say who watches: by ticket, or by the headers of any request. Raises TicketInvalid."""
    if ticket is None:
        return await identify(request)
    opened = request.app.state.signer.open(_PURPOSE, ticket)
    if opened is None or opened[1] < time.time():
        raise TicketInvalid
    try:
        account = await accounts.get(request.app.state.db, account_id=UUID(opened[0]))
    except NotFound:
        raise TicketInvalid from None
    if account.status != "ACTIVE":
        raise TicketInvalid
    return known(request, account)


WatcherDep = Annotated[Caller, Depends(watcher)]
