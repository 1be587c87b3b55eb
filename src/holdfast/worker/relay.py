"""The relay: takes effects out of the outbox and gives them to channels, in order per stream.

Delivery is at least once, with the effect's stable id. A stream is leased whole; within it the next
effect leaves when the one before has, and across streams they leave side by side. What becomes of
one is told to the database in one place, so a relay that lost its lease settles nothing.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

import structlog

from holdfast.kernel import ledger, outbox
from holdfast.kernel.outbox import (
    DeliveryFailed,
    DeliveryPointless,
    DeliveryPostponed,
    DeliveryRefused,
    Effect,
    Settlement,
)
from holdfast.postgres.pool import Database

_LEASE = 30.0  # seconds; what is not sent in two thirds of it waits for the next lease
_STREAMS, _EFFECTS = 100, 50
_RETRY_FIRST, _RETRY_MOST, _WISH_MOST = 1.0, 600.0, 86_400.0
_WITHOUT_CHANNEL = 60.0
_KEEPS_LEASE = ("delivered", "cancelled", "skipped")

log = structlog.get_logger("holdfast.relay")


class Channel(Protocol):
    """A way out; a stream names the one that carries its effects."""

    async def deliver(self, effect: Effect) -> None:
        """Deliver one effect; may be called twice for the same one.

        Raises DeliveryFailed (later), DeliveryRefused (never), DeliveryPostponed (not now, though
        nothing is wrong) or DeliveryPointless (nobody is there any more).
        """
        ...


class LogChannel:
    """The channel `log`, which carries every stream that has no other: a line an effect."""

    async def deliver(self, effect: Effect) -> None:
        """Write the line."""
        log.info("effect", topic=effect.topic, id=str(effect.source), stream=str(effect.stream),
                 seq=effect.seq, **_shown(effect))  # fmt: skip


def _shown(effect: Effect) -> dict[str, object]:
    taken = {"event", "topic", "id", "stream", "seq", "level", "logger", "timestamp"}
    return {name: value for name, value in effect.payload.items() if name not in taken}


class Relay:
    """Delivers what is in the outbox to `channels`, by the name that a stream carries.

    After `tries` failures (by default about half a day of them) an effect is given up: it blocks
    its stream until somebody redrives or skips it, or is passed by, as its topic says.
    """

    def __init__(self, db: Database, channels: Mapping[str, Channel], *, tries: int = 100) -> None:
        self._db = db
        self._channels = dict(channels)
        self._tries = tries

    async def once(self) -> int:
        """Lease, deliver and settle one round; returns how many effects left."""
        streams: defaultdict[UUID, list[Effect]] = defaultdict(list)
        for effect in await outbox.lease(
            self._db, streams=_STREAMS, effects=_EFFECTS, seconds=_LEASE
        ):
            streams[effect.stream].append(effect)
        until = asyncio.get_running_loop().time() + _LEASE * 2 / 3
        settled = await asyncio.gather(*(self._stream(s, until) for s in streams.values()))
        settlements = [settlement for some in settled for settlement in some]
        if settlements:
            await outbox.settle(self._db, settlements)
        leases = [  # the others gave theirs up when they were settled
            (group[0].stream, group[0].token)
            for group, some in zip(streams.values(), settled, strict=True)
            if not some or some[-1].outcome in _KEEPS_LEASE
        ]
        if leases:
            await outbox.release(self._db, leases)
        return sum(1 for one in settlements if one.outcome in _KEEPS_LEASE)

    async def _stream(self, effects: Sequence[Effect], until: float) -> list[Settlement]:
        """Deliver one stream's effects, in order; stops at the first that does not leave."""
        made: list[Settlement] = []
        for effect in effects:
            if asyncio.get_running_loop().time() > until:
                break
            settlement = await self._effect(effect, tries=0 if made else effect.attempts)
            if settlement is None:  # the stream is somebody else's now
                break
            if made and made[-1].outcome == settlement.outcome == "delivered":
                made[-1] = settlement  # it speaks of everything up to its seq
            else:
                made.append(settlement)
            if settlement.outcome not in _KEEPS_LEASE:
                break
        return made

    async def _effect(self, effect: Effect, *, tries: int) -> Settlement | None:
        place = (effect.stream, effect.token, effect.seq)
        if not effect.valid:
            return Settlement(*place, "cancelled")
        if effect.conditional:
            standing = await outbox.still_valid(self._db, effect)
            if standing != "ok":
                return Settlement(*place, "cancelled") if standing == "cancelled" else None
        channel = self._channels.get(effect.channel)
        if channel is None:
            return Settlement(*place, "later", f"no channel {effect.channel}", _WITHOUT_CHANNEL)
        try:
            if effect.topic == ledger.FORWARD and effect.channel == "log":
                await ledger.forward(self._db, account_id=effect.stream)
            await channel.deliver(effect)
        except DeliveryPointless as problem:
            return Settlement(*place, "cancelled", str(problem)[:500])
        except DeliveryPostponed as problem:
            return Settlement(*place, "later", str(problem)[:500], problem.seconds)
        except DeliveryRefused as problem:
            return self._given_up(effect, str(problem))
        except DeliveryFailed as problem:
            return self._failed(effect, tries + 1, str(problem), problem.retry_after)
        except Exception as problem:
            log.warning("a channel raised", channel=effect.channel, exc_info=problem)
            return self._failed(effect, tries + 1, repr(problem), None)
        return Settlement(*place, "delivered")

    def _failed(
        self, effect: Effect, tries: int, error: str, retry_after: float | None
    ) -> Settlement:
        if tries >= self._tries:
            return self._given_up(effect, error)
        pause = min(_RETRY_FIRST * 2 ** min(tries - 1, 20), _RETRY_MOST) * random.uniform(0.5, 1.0)
        pause = max(pause, min(retry_after or 0.0, _WISH_MOST))
        return Settlement(effect.stream, effect.token, effect.seq, "failed", error[:500], pause)

    def _given_up(self, effect: Effect, error: str) -> Settlement:
        told = {"channel": effect.channel, "id": str(effect.id), "topic": effect.topic,
                "error": error[:500]}  # fmt: skip
        if not effect.blocks:
            log.warning("an effect was given up", **told)
            return Settlement(effect.stream, effect.token, effect.seq, "skipped", error[:500])
        log.error(
            "an effect is dead and holds up its stream", account=str(effect.stream),
            amount=effect.payload.get("refunded"), job=effect.payload.get("job"), **told,
            command=f"holdfast effects redrive {effect.id}",
        )  # fmt: skip
        return Settlement(effect.stream, effect.token, effect.seq, "dead", error[:500])
