"""The real h2spec against the server with its sockets: every case, the strict ones too."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import pytest
from support.lean import serving

from sentinel_ext.wire.limits import Limits

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e


async def test_every_case_passes() -> None:
    """Its client ignores a header table of 0, so this listener allows the default one."""
    h2spec = shutil.which("h2spec", path=f"{ROOT / '.tools/bin'}:{os.environ['PATH']}")
    if h2spec is None:
        assert shutil.which("go") is None, "Go is here, so `make tools` must have installed h2spec"
        return
    limits = Limits(test_route=b"/x", header_table_size=4096)
    async with serving(limits=limits) as (server, where):
        host, port = where.split(":")
        process = await asyncio.create_subprocess_exec(
            *(h2spec, "-S", "-h", host, "-p", port, "-P", "/x", "-o", "3"), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        text = said.decode()

        assert re.search(r"14\d tests, 14\d passed, 0 skipped, 0 failed", text), text
        assert 0 == server.in_flight
