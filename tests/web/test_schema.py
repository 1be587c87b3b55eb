"""The OpenAPI page against the server: whatever it allows is asked, every answer must fit."""

import asyncio
import os
import sys
from pathlib import Path

import httpx
import pytest

from asking import generate

SECONDS = 60
# What no schema can say: the caller's money, keys and versions, a status that does not allow it,
# cursors that we did not sign, 1.0 where an integer is meant.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 402, 403, 404, 409, 412, 416, 422, 429]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 429]
"""


@pytest.mark.slow
async def test_every_answer_is_what_the_openapi_page_says(served, bearer, tmp_path):
    """All of Schemathesis' checks, as a signed-in person, bounded in time."""
    headers = bearer("alice")
    async with httpx.AsyncClient(base_url=served, headers=headers) as http:
        await generate(http)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    run = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("run", f"{served}/openapi.json", "--checks", "all", "--max-time", str(SECONDS)),
        *("--header", f"Authorization: {headers['Authorization']}", "--warnings", "off"),
        *("--request-timeout", "10", "--continue-on-failure"),
        *("--suppress-health-check", "all"),
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()[-20_000:]
