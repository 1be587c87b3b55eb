"""The program in the README does what the README says."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from holdfast.postgres.pool import Database

README = Path(__file__).parents[2] / "README.md"
URL = "postgresql://app@localhost/app"


async def test_the_readmes_program_runs(db: Database, app_url: str):
    [program] = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert URL in program
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program.replace(URL, app_url),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await process.communicate()
    assert printed.decode() == "50 of 100 crystals spent, once\n"
