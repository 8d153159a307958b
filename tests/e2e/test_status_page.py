"""The status page in a real browser, of a real Sentinel: what a person sees, hears and can do."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from envoy.service.auth.v3 import external_auth_pb2
from playwright.async_api import expect
from support.browser import browsing
from support.fleet import Sentinel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.e2e

CHECK = "/envoy.service.auth.v3.Authorization/Check"
POLICY = """
plans:
  gold: {tier: vital, limit: 1000, window: 60s, burst: 1000, refill: 1000/s}
  bronze: {tier: economy, limit: 5, window: 60s, burst: 1000, refill: 1000/s}
default_plan: bronze
tenants: {acme: gold}
upstreams: {orders: {}}
"""
HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>&amp;{{7*7}}",
    "\u05e9\u05dc\u05d5\u05dd-\u0645\u0631\u062d\u0628\u0627",
    "x" * 256,
)
PHONE = {"width": 375, "height": 812}
# Text and what is really behind it, wherever text stands; by WCAG 2.2, 1.4.3.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const rgb = paint(getComputedStyle(node).backgroundColor);
      if (rgb[3]) return rgb;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || !node.checkVisibility() || node.closest('script, style, noscript')) continue;
    const [a, b] = [light(paint(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(text.slice(0, 40));
  }
  return {seen, bad};
}"""


class House:
    """A Sentinel, somebody who asks it, and the browser."""

    def __init__(self, sentinel: Sentinel, browser: Browser) -> None:
        self.sentinel, self.browser = sentinel, browser

    async def ask(self, tenant: str, times: int = 1) -> None:
        """Have `times` requests of a tenant decided."""
        request = external_auth_pb2.CheckRequest()
        request.attributes.request.http.headers["x-tenant-id"] = tenant
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.sentinel.grpc_port}") as channel:
            check = channel.unary_unary(CHECK)
            await asyncio.gather(*(check(request.SerializeToString()) for _ in range(times)))

    async def open(self, **options: Any) -> Watched:
        """Open the page in a window of its own."""
        watched = Watched(await self.browser.new_page(**options))
        await watched.page.goto(self.sentinel.admin)
        # No script of ours polls for it: the page's policy allows no eval.
        await expect(watched.page.locator("body")).to_have_attribute("data-link", "live", timeout=15_000)
        return watched


class Watched:
    """A page, and what it did beside what it should."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.asked.add(request.url))

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        found: int = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return found


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody else on this machine who would answer any page; yields the address, and who called."""
    calls: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(text="hello", headers={"access-control-allow-origin": "*"})

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/")), calls


@pytest.fixture(scope="module")
async def house(module_folder: Path) -> AsyncIterator[House]:
    (module_folder / "policy.yaml").write_text(POLICY)
    environment = {"REDIS_URL": "memory://", "POLICY_FILE": "policy.yaml", "ADMIN_ACTIONS": "true"}
    sentinel = Sentinel(module_folder, environment)
    async with browsing() as browser:
        sentinel.start()
        await sentinel.ready()
        yield House(sentinel, browser)
    sentinel.discard()


async def test_it_becomes_live_and_its_numbers_move(house: House) -> None:
    watched = await house.open()
    page = watched.page
    await expect(page.locator("#headline")).to_have_text("No requests are coming in")

    await house.ask("acme", 30)
    await house.ask("trial-7", 25)

    await expect(page.locator("#headline")).to_contain_text("of requests are refused", timeout=8_000)
    await expect(page.locator("#stages tr", has_text="window")).to_contain_text("rate limited")
    row = page.locator("#tenants tr", has_text="trial-7")
    await expect(row).to_contain_text("5 / 5")
    await expect(page.locator("#tenants tr", has_text="acme")).to_contain_text("30 / 1,000")
    await expect(page.locator("#tiers tr", has_text="vital")).to_contain_text("100%")
    await expect(page.locator("#tiers tr", has_text="economy")).to_contain_text("20%")
    assert "at most" in (await page.get_attribute("#graph", "aria-label") or "")
    await page.close()


async def test_a_breaker_that_is_forced_open_is_the_first_thing_told(house: House) -> None:
    watched = await house.open()
    page = watched.page
    for mode in ("open", "auto"):
        await page.request.post(f"{house.sentinel.admin}/breakers/orders", data={"mode": mode})
        if mode == "open":
            await expect(page.locator("#findings li").first).to_have_text(
                re.compile("Critical.*Circuit breaker open.*orders", re.DOTALL)
            )
            await expect(page).to_have_title(re.compile("^Critical .* Sentinel$"))
            await expect(page.locator("#spoken")).to_contain_text("Circuit breaker open", timeout=15_000)
            await page.click("#findings a >> nth=0")
            assert page.url.endswith("#breakers-s")
    await expect(page.locator("#changes tbody tr")).to_have_count(2)
    await expect(page.locator("#changes")).to_contain_text("closed → open")
    await expect(page).not_to_have_title(re.compile("^Critical"))
    await page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_reads_well_in_light_and_in_dark(house: House, scheme: str) -> None:
    watched = await house.open(color_scheme=scheme)
    ground = await watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    found = await watched.page.evaluate(CONTRAST)

    assert (scheme == "dark") == (sum(map(int, re.findall(r"\d+", ground)[:3])) < 384)
    assert [] == found["bad"]
    assert found["seen"] > 80
    await watched.page.close()


async def test_hostile_names_are_text_and_nothing_more(house: House) -> None:
    for name in HOSTILE:
        await house.ask(name, 3)
    wide, phone = await house.open(), await house.open(viewport=PHONE)
    for watched in (wide, phone):
        names = watched.page.locator("#tenants tbody th bdi")
        for name in HOSTILE:
            await expect(names.filter(has_text=name).first).to_have_text(name)
        assert 0 == await watched.page.locator("td script, td img, th script, th img, th svg").count()
        assert 0 == await watched.overflow()
        assert [] == watched.complaints
        assert "owned" not in await watched.page.title()
        await watched.page.close()


async def test_on_a_phone_nothing_is_wider_than_the_window_and_tables_stay_tables(house: House) -> None:
    watched = await house.open(viewport=PHONE)
    page = watched.page
    rows = page.get_by_role("table", name=re.compile("Refused by stage")).get_by_role("row")

    assert 0 == await watched.overflow()
    assert await rows.count() >= 4
    assert (
        4
        == await page.get_by_role("rowheader", name=re.compile("^(bucket|window|pressure|breaker)$")).count()
    )
    await page.set_viewport_size({"width": 320, "height": 600})
    assert 0 == await watched.overflow()
    await page.close()


async def test_it_can_be_walked_by_keyboard_and_named_by_a_screen_reader(house: House) -> None:
    watched = await house.open()
    page = watched.page
    order = []
    for _ in range(2):
        await page.keyboard.press("Tab")
        order.append(await page.evaluate("document.activeElement.textContent.trim()"))
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    headings = await page.get_by_role("heading").all_inner_texts()
    tree = await page.locator("body").aria_snapshot()

    assert ["Skip to the status", "Pause"] == order
    assert "none" != outline
    assert ["Sentinel", "Decisions", "Tiers", "Pressure"] == [
        each for each in headings if each in {"Sentinel", "Decisions", "Tiers", "Pressure"}
    ]
    for name in ("Circuit breakers", "Store", "Access log", "Configuration", "Fleet"):
        assert 1 == await page.get_by_role("region", name=name).count(), tree
    assert 1 == await page.get_by_role("button", name="Pause").count()
    assert 1 == await page.get_by_role("navigation", name="More of this Sentinel").count()
    assert "table" in tree
    unnamed = await page.evaluate(
        "[...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent).length"
    )
    assert 0 == unnamed
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    assert "main" == await page.evaluate("document.activeElement.id")
    await page.close()


async def test_it_talks_to_nobody_else_and_says_nothing_wrong(house: House) -> None:
    watched = await house.open()
    await house.ask("acme", 3)
    await watched.page.wait_for_timeout(1200)
    elsewhere = [url for url in watched.asked if not url.startswith((house.sentinel.admin, "data:"))]

    assert [] == elsewhere
    assert f"{house.sentinel.admin}/events" in watched.asked
    assert [] == watched.complaints
    await watched.page.close()


async def test_the_policy_stops_what_does_not_belong_to_the_page(house: House) -> None:
    watched = await house.open()
    async with listening() as (elsewhere, calls):
        gone = await watched.page.evaluate(f"fetch('{elsewhere}').then(() => 'sent', () => 'stopped')")
        assert ("stopped", 0) == (gone, len(calls))
        async with aiohttp.ClientSession() as session, session.get(elsewhere) as response:
            assert (200, 1) == (response.status, len(calls))
    ran = await watched.page.evaluate(
        """() => {
          const made = document.createElement('script');
          let refused = 0;
          try { made.textContent = 'window.ran = 1'; document.head.append(made); } catch { refused += 1; }
          try { document.body.innerHTML = '<p>gone'; } catch { refused += 1; }
          return [window.ran ?? 0, refused];
        }"""
    )

    assert [0, 2] == ran
    assert any("Content Security Policy" in each for each in watched.complaints)
    await watched.page.close()


async def test_paused_it_stands_still_and_asks_for_nothing(house: House) -> None:
    watched = await house.open()
    page = watched.page
    await page.click("#pause")
    before = await watched.text("main")
    await house.ask("somebody-new", 2)
    await page.wait_for_timeout(1500)

    assert before == await watched.text("main")
    await expect(page.locator("#link-text")).to_contain_text("Paused, numbers of")
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#tenants")).to_contain_text("somebody-new")
    await expect(page.locator("#link-text")).to_have_text("Live")
    await page.close()


async def test_when_sentinel_restarts_it_says_so_and_comes_back_by_itself(house: House) -> None:
    watched = await house.open()
    page = watched.page
    assert 0 == house.sentinel.stop()
    await expect(page.locator("#link-text")).to_contain_text("Connection lost, reconnecting, numbers of")
    await expect(page.locator("#spoken")).to_have_text("Connection lost, reconnecting")
    house.sentinel.start()
    await house.sentinel.ready()
    await expect(page.locator("#link-text")).to_have_text("Live", timeout=10_000)
    await expect(page.locator("#fleet-dl")).to_contain_text("ready")
    await page.close()


async def test_scripts_get_the_same_as_json(house: House) -> None:
    watched = await house.open()
    response = await watched.page.request.get(f"{house.sentinel.admin}/status")
    found = json.loads(await response.text())

    assert "memory://" == found["store"]["url"]
    assert ["bucket", "window", "pressure", "breaker"] == [
        each["stage"] for each in found["traffic"]["stages"]
    ]
    await watched.page.close()
