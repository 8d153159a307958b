"""`python -m benchmarks.screenshots`: pictures of the status page for the documentation, from a running demo.

Starts `sentinel-ext demo` on ports of its own, sends as a few tenants for two minutes, lets an operator open
the breaker for a moment, and takes the page in light, dark, and on a phone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from playwright.async_api import async_playwright

from benchmarks.png import smaller
from sentinel_ext.demo.preflight import DEMO_POLICY

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "docs" / "images"
READY_S = 90.0
# tenant: requests a second
TRAFFIC = {"acme": 24.0, "globex": 8.0, "trial-7": 3.0, "initech": 1.4, "umbrella": 1.0, "hooli": 0.6}
# name: width, height, dark
PICTURES = {
    "light": (1280, 800, False),
    "dark": (1280, 800, True),
    "phone": (375, 812, False),
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


# Short and relative, so that a picture shows no folder of whoever takes it.
POLICY = "policy.yaml"


@contextlib.contextmanager
def demo(admin: int, listener: int) -> Iterator[None]:
    """Run the demo with these ports."""
    environment = os.environ | {
        "ADMIN_ADDRESS": f"127.0.0.1:{admin}",
        "PORT": str(listener),
        "GRPC_ADDRESS": f"127.0.0.1:{free_port()}",
        "DOWNSTREAM_URL": f"http://localhost:{free_port()}",
        "DEBUG_GRPC_ADDRESS": "off",
        "ADMIN_ACTIONS": "true",
        # Four programs and a browser share the machine: late answers of the store would be the machine's.
        "STORE_TIMEOUT_MS": "100",
        "POLICY_FILE": POLICY,
    }
    command = [sys.executable, "-m", "sentinel_ext", "demo"]
    command += ["--envoy-admin-address", f"127.0.0.1:{free_port()}"]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        shutil.copy(DEMO_POLICY, Path(folder) / POLICY)
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


async def until_deciding(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until a request passes through all of the demo."""
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url, headers={"x-tenant-id": "acme"}) as response:
                    if "x-correlation-id" in response.headers:
                        return
            await asyncio.sleep(0.2)


async def send(session: aiohttp.ClientSession, url: str, tenant: str, per_s: float) -> None:
    """Send as one tenant, with ups and downs, until cancelled."""
    for number in itertools.count():
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(url, headers={"x-tenant-id": tenant}) as response:
                await response.read()
        wave = 1.0 + 0.45 * ((number * 7 % 40) / 40 - 0.5)
        await asyncio.sleep(wave / per_s)


async def force(session: aiohttp.ClientSession, admin: str, mode: str) -> None:
    """Act on the breaker as an operator does."""
    async with session.post(f"{admin}/breakers/default", json={"mode": mode}) as response:
        response.raise_for_status()


async def picture(browser: Any, admin: str, name: str) -> bytes:  # noqa: ANN401  playwright's
    """Take one picture of the whole page, or of what a phone shows first."""
    width, height, is_dark = PICTURES[name]
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if is_dark else "light",
        device_scale_factor=2 if name == "phone" else 1,
        reduced_motion="reduce",
        locale="en-GB",
    )
    page = await context.new_page()
    await page.goto(admin)
    await page.wait_for_selector("body[data-link=live]")  # the page's policy allows no eval to poll by
    await asyncio.sleep(6.0)  # until what opening it cost is over
    taken: bytes = await page.screenshot(full_page=name != "phone", scale="device")
    await context.close()
    return taken


async def main(seconds: float) -> None:
    """Run the demo, and take all pictures after `seconds` of traffic."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium on PATH: `make tools` installs it, or use the system's package manager")
    FOLDER.mkdir(exist_ok=True)
    admin_port, listener = free_port(), free_port()
    admin, url = f"http://127.0.0.1:{admin_port}", f"http://127.0.0.1:{listener}/proxy/hello"
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright, aiohttp.ClientSession() as session:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        with demo(admin_port, listener):
            async with asyncio.TaskGroup() as group:
                await until_deciding(session, url)
                senders = [group.create_task(send(session, url, *each)) for each in TRAFFIC.items()]
                await asyncio.sleep(seconds / 2)
                await force(session, admin, "open")
                await asyncio.sleep(min(4.0, seconds / 10))
                await force(session, admin, "auto")
                await asyncio.sleep(seconds / 2)
                taken = {name: await picture(browser, admin, name) for name in PICTURES}
                for sender in senders:
                    sender.cancel()
        await browser.close()
    for name, png in taken.items():
        (FOLDER / f"status-{name}.png").write_bytes(smaller(png))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=125.0, help="of traffic before the pictures")
    asyncio.run(main(parser.parse_args().seconds))
