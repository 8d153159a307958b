"""h2spec, the outside judge of HTTP/2 servers, against the lean server: every case, the strict ones too."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from support.envoy import free_port

from sentinel_ext.address import Address
from sentinel_ext.server.lean import LeanServer
from sentinel_ext.wire.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

H2SPEC = Path(__file__).parents[2] / ".tools/bin/h2spec"
# Its cases wait for an answer that may rightly not come: this long each.
CASE_TIMEOUT_S = 1
PATIENCE_S = 300.0
# 2.2.1 has 146; fewer means that a part of it was not run.
AT_LEAST = 146
# Its JUnit report holds raw bytes that no XML parser takes, so its last line is read.
SUMMARY = re.compile(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed")

pytestmark = pytest.mark.timeout(PATIENCE_S)


@pytest.fixture
def h2spec() -> Path:
    if not H2SPEC.exists():
        assert shutil.which("go") is None, f"{H2SPEC} is missing though Go is here: run `make tools`"
        pytest.skip("NO GO, SO NO h2spec: HTTP/2 conformance is not checked; install Go and run `make tools`")
    return H2SPEC


@pytest.fixture(params=["trusted", "exposed"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """A lean server that also answers `/` as a plain HTTP server would, which h2spec asks for."""
    port = free_port()
    # h2spec ignores SETTINGS_HEADER_TABLE_SIZE: with 0, and then no size update in its first block, every
    # case would end in COMPRESSION_ERROR, as RFC 9113 §4.3.1 demands.
    limits = structs.replace(getattr(Limits, request.param)(), test_route=b"/", header_table_size=4096)
    server = LeanServer(Address("127.0.0.1", port), limits=limits)
    await server.start()
    yield port
    await server.stop(0)


async def test_every_case_of_h2spec_passes(h2spec: Path, port: int) -> None:
    arguments = ["-S", "-h", "127.0.0.1", "-p", str(port), "-P", "/", "-o", str(CASE_TIMEOUT_S)]

    process = await asyncio.create_subprocess_exec(
        h2spec, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE_S - 30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    text = output.decode(errors="replace")
    summary = SUMMARY.search(text)
    assert summary is not None, text[-4000:]
    total, passed, skipped, failed = map(int, summary.groups())
    # What failed is told again below the summary's heading "Failures:".
    assert (0, 0) == (skipped, failed), text[text.rfind("Failures:") :][:8000]
    assert AT_LEAST <= total == passed
    assert 0 == process.returncode
