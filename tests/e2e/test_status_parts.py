"""Each part of the status page in a real browser, from a snapshot in which no two numbers are alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect
from support.admin import admin_of
from support.browser import browsing
from support.snapshots import (
    make_breaker,
    make_pressure,
    make_process,
    make_row,
    make_snapshot,
    make_traffic,
    make_upstream,
)

from sentinel_ext.core.findings import judged
from sentinel_ext.core.snapshot import ConfigState, LogState, StoreState
from sentinel_ext.server.live_status import StatusPages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

    from sentinel_ext.core.snapshot import Snapshot

pytestmark = pytest.mark.e2e

SHARES = {"vital": 1.0, "standard": 0.42, "economy": 0.0}
SHOWN = make_snapshot(
    at_s=1_000.0,
    pressure=make_pressure(
        make_upstream(
            "orders", pressure=71.0, signals={"latency": 64.0}, offered=310.0, admitted=205.0,
            completed=198.0, credit=207.0, inflight=17, tier_share=SHARES,
        ),
        make_upstream("search", pressure=12.0, is_blind=True, offered=33.0, admitted=32.0, completed=31.0),
        score=86.0, level="critical", local=53.0, local_signals={"loop_lag": 21.0, "psi_cpu": 47.0},
    ),
    upstream_count=40,
    tenants=(make_row("known", refused=2.5), make_row("new", refused=None), make_row("well", refused=0.0)),
    tenant_count=900,
    breakers=(make_breaker("orders", state="open", reason="failure_rate", retry_ms=12_000, failed=8, ok=11),),
    traffic=make_traffic(fallbacks=6.0),
    store=StoreState("rediss://store:6380/1", False, 4.5, 91.0, {"timeout": 3.0}),
    log=LogState(7, 19.0, 450.0, 1.5, 2, 100.0, True),
    config=ConfigState(13, "abcd", False, 940.0, 990.0, 3, ("policy.yaml:4: no plan",), "/etc/policy.yaml"),
    instances=4,
    names=("host-a:1", "host-b:2"),
    processes=(
        make_process("host-a:1", uptime_s=61.0, per_s=15.0, pressure=53.0),
        make_process("worker 1", is_ready=False, per_s=0.0, restarts=5, faults=9),
    ),
)  # fmt: skip


class Source:
    async def snapshot(self) -> Snapshot:
        return judged(SHOWN)


@pytest.fixture(scope="module")
async def page() -> AsyncIterator[Page]:
    async with browsing() as browser, admin_of(front=StatusPages(Source())) as session:
        page = await browser.new_page(locale="en-GB", timezone_id="UTC")
        await page.goto(str(session._base_url))
        await expect(page.locator("body")).to_have_attribute("data-link", "live", timeout=15_000)
        yield page


async def pairs(page: Page, part: str) -> dict[str, str]:
    """Return a list of terms as the page shows it."""
    terms = await page.locator(f"#{part} dt").all_inner_texts()
    values = await page.locator(f"#{part} dd").all_inner_texts()
    return dict(zip(terms, (re.sub(r"\s+", " ", value).strip() for value in values), strict=True))


async def cells(page: Page, table: str, row: str) -> list[str]:
    found = page.locator(f"#{table} tbody tr").filter(has_text=row).locator("th, td")
    return [re.sub(r"\s+", " ", text).strip() for text in await found.all_inner_texts()]


async def test_pressure_and_its_signals(page: Page) -> None:
    assert "86" == await page.inner_text("#score")
    assert "53" == await page.inner_text("#local")
    await expect(page.locator("#level")).to_have_text("critical")
    assert {"loop lag": "21", "psi cpu": "47"} == await pairs(page, "signals")


async def test_upstreams(page: Page) -> None:
    assert "2 of 40" == await page.inner_text("#upstream-count")
    orders, search = await cells(page, "upstreams", "orders"), await cells(page, "upstreams", "search")

    assert ["orders", "71", "latency 64", "310", "205", "198", "207", "17"] == orders[:-1]
    assert "vital 100% standard 42% economy 0%" == orders[-1]
    assert ["search", "12", "blind: the log is silent", "33", "32", "31", "all pass", "1"] == search[:-1]


async def test_the_store(page: Page) -> None:
    assert {
        "State": "away",
        "Address": "rediss://store:6380/1",
        "Calls": "91 /s",
        "p99 latency": "4.5 ms",
        "Errors": "timeout 3.0/s",
        "Decided without it": "6.0 /s",
    } == await pairs(page, "store-dl")


async def test_the_access_log(page: Page) -> None:
    assert {
        "State": "silent",
        "Open streams": "7",
        "Messages": "19 /s",
        "Entries": "450 /s",
        "Unmatched": "1.5 /s",
        "Unreadable": "2",
        "Every": "100 ms",
    } == await pairs(page, "log-dl")


async def test_the_configuration_and_its_problems(page: Page) -> None:
    found = await pairs(page, "config-dl")

    assert {
        "State": "files broken",
        "Generation": "13",
        "Age": "60 s",
        "Policy file": "/etc/policy.yaml",
    } == {name: found[name] for name in ("State", "Generation", "Age", "Policy file")}
    assert "00:15:40" in found["Loaded"]
    assert "00:16:30" in found["Broken since"]
    problems = await page.locator("#problems li").all_inner_texts()
    assert ["policy.yaml:4: no plan", "and 2 more"] == problems


async def test_the_fleet_and_its_workers(page: Page) -> None:
    found = await pairs(page, "fleet-dl")

    assert {"Instances": "4", "Names": "host-a:1, host-b:2", "Workers here": "2", "Up": "61 s"} == {
        name: found[name] for name in ("Instances", "Names", "Workers here", "Up")
    }
    assert ["host-a:1", "ready", "15", "53", "61 s", "0", "0"] == await cells(page, "processes", "host-a:1")
    assert ["worker 1", "not ready", "0", "0", "60 s", "5", "9"] == await cells(page, "processes", "worker 1")


async def test_a_tenants_refusals_before_they_are_known_are_not_none(page: Page) -> None:
    refused = [(await cells(page, "tenants", name))[4] for name in ("known", "new", "well")]

    assert ["2.5", "\u2013", "0"] == refused
    assert "3 of 900" == await page.inner_text("#tenant-count")


async def test_breakers(page: Page) -> None:
    assert ["orders", "open", "failure rate", "8 of 19", "0", "in 12 s"] == await cells(
        page, "breakers", "orders"
    )
