"""A relay as a process of its own, to be killed: python relay_process.py URL."""

import asyncio
import sys

from holdfast.postgres.pool import Database
from holdfast.systems.providers.outward import Outward
from holdfast.systems.providers.webhooks import WebhookChannel
from holdfast.worker.relay import LogChannel, Relay


async def main(url):
    async with await Database.open(url, max_size=2) as db:
        way = Outward(allow_private=True)
        relay = Relay(db, {"log": LogChannel(), "webhook": WebhookChannel(db, way)})
        while True:
            if not await relay.once():
                await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
