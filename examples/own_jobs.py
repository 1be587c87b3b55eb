"""Job kinds of your own, in three ways, made by a worker with `holdfast work --import`.

    python examples/own_jobs.py

`checksum` is a plain function that computes for longer than its lease. `invoice` completes in the
transaction in which it writes its own row. `transcript` is priced by use.
"""

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from places import Place, database

import holdfast
from holdfast import Database, accounts, ledger, queue
from holdfast.kernel.queue import Attempt, AttemptFailed


@holdfast.job("checksum", price=5, lease=1.0)
def checksum(attempt: Attempt) -> dict[str, str]:
    """Compute for longer than the lease. A plain function runs in a thread of its own.

    The worker's heart beats for it all the same. `progress` raises LeaseLost once somebody else has
    the job, so a thread that tells how far it is also learns when to stop.
    """
    found, seconds, began = attempt.payload["text"].encode(), 3, time.monotonic()
    while (done := time.monotonic() - began) < seconds:
        attempt.progress("hashing", done, seconds)
        found = hashlib.pbkdf2_hmac("sha256", found, b"salt", 100_000)
    return {"sum": found.hex()}


@holdfast.job("invoice", price=10, attempts=2, backoff=0.1)
async def invoice(attempt: Attempt) -> None:
    """Write an invoice and complete the job in one transaction: both, or neither.

    Had the lease been lost, `finish` would raise LeaseLost and take the row with it.
    """
    async with attempt.db.transaction() as mine:
        await mine.execute(
            "insert into shop.invoice (job, customer) values (%s, %s)",
            [attempt.id, attempt.payload["customer"]],
        )
        if attempt.payload["customer"] == "nobody":
            # Raised inside: the row is rolled back. Permanent: refunded now, not tried again.
            raise AttemptFailed("no_customer", "There is nobody to bill.", permanent=True)
        await attempt.finish(mine, {"text": f"invoice for {attempt.payload['customer']}"})


@holdfast.job("transcript")
async def transcript(attempt: Attempt) -> dict[str, object]:
    """Cost what was used: the estimate was reserved, the rest of it is given back."""
    words = attempt.payload["speech"].split()
    for word in words:
        await attempt.text(word + " ")  # whoever watches the job sees it grow
    attempt.use(len(words))
    return {"text": " ".join(words), "words": len(words)}


async def main() -> None:
    """Buy one job after another and print what became of each."""
    with database() as place:
        prepare(place)
        async with await Database.open(place.url) as db, worker(place):
            ada = await accounts.sign_in(db, kind="dev", subject=f"ada {uuid4()}")
            print(f"ada begins with {ada.balance}")

            async def buy(kind: str, **payload: str) -> UUID:
                made = await holdfast.enqueue(
                    db, kind, account_id=ada.id, key=str(uuid4()), payload=payload
                )
                return made.id

            await tell(db, ada.id, await buy("checksum", text="holdfast"))
            await tell(db, ada.id, await buy("invoice", customer="Ada"))
            await tell(db, ada.id, await buy("invoice", customer="nobody"))
            reserved = await queue.reserve(
                db, account_id=ada.id, kind="transcript", estimate=40, key=str(uuid4()),
                payload={"speech": "hold fast to what is yours"},
            )  # fmt: skip
            await tell(db, ada.id, reserved.id)
        print("invoices:", count_invoices(place))


async def tell(db: Database, account: UUID, job: UUID) -> None:
    """Wait for a job's end, and print it with the wallet."""
    async with asyncio.timeout(60):
        while (found := await queue.get(db, job_id=job, owners=[account])).finished_at is None:
            await asyncio.sleep(0.05)
    wallet = await ledger.wallet_of(db, account_id=account)
    print(
        f"{found.kind:10} {found.status:9} attempt {found.attempt}  charged {found.charged:2}"
        f"  refunded {found.refunded:2}  balance {wallet.balance:3}  held {wallet.held}"
    )


def prepare(place: Place) -> None:
    """Make the program's own table; workers run as `holdfast_app`, which gets its rights."""
    with psycopg.connect(place.owner_url, autocommit=True) as owner:
        owner.execute("create schema if not exists shop")
        owner.execute(
            "create table if not exists shop.invoice (job uuid primary key, customer text)"
        )
        owner.execute("grant usage on schema shop to holdfast_app")
        owner.execute("grant select, insert on shop.invoice to holdfast_app")


def count_invoices(place: Place) -> int:
    """Return how many invoices there are."""
    with psycopg.connect(place.url) as db:
        return db.execute("select count(*) from shop.invoice").fetchone()[0]


@asynccontextmanager
async def worker(place: Place) -> AsyncIterator[None]:
    """Run `holdfast work --import own_jobs`, a process of its own, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "holdfast", "work", "--import", "own_jobs",
        cwd=Path(__file__).parent,
        env=os.environ
        | {
            "HOLDFAST_DATABASE_URL": place.url,
            "HOLDFAST_OWNER_URL": place.owner_url,
            "HOLDFAST_LOG_LEVEL": "error",
        },
    )  # fmt: skip
    async with await Database.open(place.url) as db:  # kinds are known once a worker has come
        while "transcript" not in {row["kind"] for row in await queue.depth(db)}:
            await asyncio.sleep(0.05)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)  # finishes what it has, then goes
        await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
