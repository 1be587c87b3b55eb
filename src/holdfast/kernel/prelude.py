"""Ids that know where they live.

The bucket is the last byte of the owning account's UUIDv7, and every id made for that owner ends
in the same byte, so any id routes itself: `bytes[15]` here, `get_byte(uuid_send(id), 15)` in SQL.
"""

import secrets
import time
from uuid import UUID

BUCKETS = 256


def bucket_of(some_id: UUID) -> int:
    """Return the bucket (0-255) of an id."""
    return some_id.bytes[15]


def new_id(bucket: int) -> UUID:
    """Make a UUIDv7 in `bucket`: 48 bits of Unix milliseconds, random bits, the bucket last."""
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"a bucket is 0-{BUCKETS - 1}, not {bucket}")
    millis = time.time_ns() // 1_000_000
    made = bytearray(millis.to_bytes(6, "big") + secrets.token_bytes(10))
    made[6] = 0x70 | made[6] & 0x0F
    made[8] = 0x80 | made[8] & 0x3F
    made[15] = bucket
    return UUID(bytes=bytes(made))
