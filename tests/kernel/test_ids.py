"""Ids are UUIDv7 of their owner's bucket, in the order in which they were made."""

from uuid import UUID

import pytest

from holdfast.kernel.prelude import bucket_of, new_id


async def _made(owner, bucket: int, count: int) -> list[UUID]:
    rows = await (
        await owner.execute(
            "select kernel.nth_id(s.high, s.low, n, %s::smallint)"
            " from kernel.new_seed() s, generate_series(1, %s) n order by n",
            [bucket, count],
        )
    ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("bucket", [0, 1, 127, 128, 255])
async def test_what_the_database_makes(owner, bucket):
    made = await _made(owner, bucket, 500)
    [single] = await (
        await owner.execute("select kernel.new_id(%s::smallint)", [bucket])
    ).fetchone()
    for one in [*made, single]:
        assert (one.version, one.variant) == (7, "specified in RFC 4122")
        assert bucket_of(one) == bucket
    assert made == sorted(set(made))
    assert made[-1] < single


@pytest.mark.parametrize("bucket", [0, 255])
def test_what_python_makes(bucket):
    made = {new_id(bucket) for _ in range(500)}
    assert len(made) == 500
    assert {(m.version, m.variant, bucket_of(m)) for m in made} == {
        (7, "specified in RFC 4122", bucket)
    }


def test_a_bucket_is_a_byte():
    with pytest.raises(ValueError, match="0-255"):
        new_id(256)
