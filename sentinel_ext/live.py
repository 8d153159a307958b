"""Files that change while we run: watched, checked whole, swapped in one step; the last good ones stay.

Watched by the system's own notices (inotify through watchfiles), with a slow look at the contents beside it:
not every filesystem tells. Reading and compiling is a thread's work; the event loop only swaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from watchfiles import awatch

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.contents import fingerprint, irregular, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from sentinel_ext.core.policy import Policy

# Where the system does not tell: how late a change is noticed. A look at 8 MB takes 15 ms of a thread.
POLL_S = 5.0
# A change is several events: the notices of so long are one.
NOTICE_MS: Final = 100
NOTICE_MAX_MS: Final = 500
# Half a file is often valid, too: contents must be the same twice, so far apart, before they are loaded.
SETTLE_S: Final = 0.1
# What changes for longer than so many looks is loaded as it is.
MAX_SETTLING: Final = 50
# After a watch could not begin (a folder that just went, no more watches to be had).
RETRY_S: Final = 2.0
# Of a broken file, what /readyz and the log show, and of a doubtful one the log.
MAX_SHOWN: Final = 10
# How long a thread that compiles may keep the interpreter while the event loop waits for it. With the usual
# 5 ms a Check took 15 to 19 ms in the median while 100,000 tenants were compiled, with this 1.7.
SWITCH_S: Final = 0.0002

logger = logging.getLogger("sentinel.config")


class LivePolicy:
    """Keeps a policy up to date. Belongs to one event loop.

    Attributes:
        generation: of the policy in force; 1 is the one from the start.
        reloads: how many ended `ok` and `broken`.
        is_ok: what the files hold now is in force.
        problems: of the files as they are, while they cannot be used.
        loaded_at: when the policy in force was loaded, seconds since the epoch.
        broken_at: since when the files cannot be used; None while they can.
        digest: of the contents in force.
        failed: told of an exception of our own.
        settle_s: how long contents must stay the same before they are loaded.
    """

    def __init__(
        self,
        files: Iterable[Path],
        folders: Iterable[Path],
        load: Callable[[], Policy],
        apply: Callable[[Policy], None],
        now_s: Callable[[], float],
        *,
        seen: bytes | None = None,
    ) -> None:
        """Prepare; what is in force now was just loaded from the same files.

        Args:
            files, folders: what `load` reads.
            load: reads and checks everything; runs in a thread.
            apply: puts a policy in force; runs on the loop.
            now_s: seconds since the epoch.
            seen: fingerprint of what is in force, taken before it was read; None takes it now, and a change
                since the reading goes unnoticed.
        """
        self._files, self._folders = tuple(files), tuple(folders)
        self._load, self._apply, self._now_s = load, apply, now_s
        self.settle_s = SETTLE_S
        self.generation = 1
        self.reloads = {"ok": 0, "broken": 0}
        self.is_ok = True
        self.problems: tuple[str, ...] = ()
        self.loaded_at = now_s()
        self.broken_at: float | None = None
        self.failed: Callable[[Exception], None] = lambda _error: None
        self._seen = self.digest = fingerprint(self._files, self._folders) if seen is None else seen
        self._wanted = asyncio.Event()
        self._is_forced = False
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to watch, if there is anything to watch."""
        if not self._files and not self._folders:
            return
        self._wanted.set()  # what changed since the first reading
        self._tasks = [
            asyncio.create_task(self._watch(), name="config-watch"),
            asyncio.create_task(self._follow(), name="config-follow"),
        ]

    async def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def reload(self) -> None:
        """Look now, and load even what has not changed (SIGHUP)."""
        self._is_forced = True
        self._wanted.set()

    def details(self) -> dict[str, Any]:
        """Return what /readyz tells."""
        told: dict[str, Any] = {
            "generation": self.generation,
            "digest": self.digest.hex(),
            "ok": self.is_ok,
            "loaded_at": round(self.loaded_at, 3),
        }
        if self.broken_at is not None:
            told["broken_at"] = round(self.broken_at, 3)
            told["problem_count"] = len(self.problems)
            told["problems"] = list(self.problems[:MAX_SHOWN])
        return told

    async def look(self, *, forced: bool = False) -> None:
        """Load what the files hold, if that has changed or if `forced`; put it in force if it is right."""
        seen = await asyncio.to_thread(fingerprint, self._files, self._folders)
        if seen == self._seen and not forced:
            return
        if not forced:
            seen = await self._settled(seen)
        self._seen = seen
        try:
            policy = await self._compiled()
            self._apply(policy)
        except PolicyError as error:
            self._broken(error.problems)
        except Exception as error:  # noqa: BLE001  a bug of ours must not end the watch, nor look like success
            self._broken((f"internal error: {type(error).__name__}",))
            self.failed(error)
        else:
            self._loaded(policy, seen)

    async def _settled(self, seen: bytes) -> bytes:
        """Wait until nobody writes any more."""
        for _ in range(MAX_SETTLING):
            await asyncio.sleep(self.settle_s)
            before, seen = seen, await asyncio.to_thread(fingerprint, self._files, self._folders)
            if seen == before:
                break
        return seen

    async def _compiled(self) -> Policy:
        others = await asyncio.to_thread(irregular, self._files)
        if others:
            raise PolicyError([f"{path}: is not a file" for path in others])
        with _switching_often():
            return await asyncio.to_thread(self._load)

    def _loaded(self, policy: Policy, seen: bytes) -> None:
        self.generation += 1
        self.reloads["ok"] += 1
        self.is_ok, self.problems, self.broken_at = True, (), None
        self.loaded_at, self.digest = self._now_s(), seen
        logger.info(
            "configuration reloaded",
            extra={
                "generation": self.generation,
                "digest": seen.hex(),
                "plans": len(policy.plans),
                "warnings": len(policy.warnings),
            },
        )
        for warning in policy.warnings[:MAX_SHOWN]:
            logger.warning(warning)

    def _broken(self, problems: tuple[str, ...]) -> None:
        self.reloads["broken"] += 1
        self.is_ok, self.problems = False, problems
        if self.broken_at is None:
            self.broken_at = self._now_s()
        logger.error(
            "configuration is broken; the last good one stays in force",
            extra={
                "generation": self.generation,
                "digest": self.digest.hex(),
                "problems": list(problems[:MAX_SHOWN]),
                "count": len(problems),
            },
        )

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wanted.wait()
            self._wanted.clear()
            forced, self._is_forced = self._is_forced, False
            try:
                await self.look(forced=forced)
            except Exception as error:  # noqa: BLE001  as in look
                self.failed(error)

    async def _watch(self) -> None:
        told = ""
        while True:
            try:
                await self._watch_these(await asyncio.to_thread(watched, self._files, self._folders))
            except Exception as error:  # noqa: BLE001  the look every POLL_S goes on without
                if str(error) != told:
                    told = str(error)
                    why = {"why": told, "every_s": POLL_S}
                    logger.warning("files are not watched but looked at", extra=why)
                await asyncio.sleep(RETRY_S)

    async def _watch_these(self, folders: dict[Path, tuple[int, int]]) -> None:
        """Watch until there are others: what was not there came, what was replaced is another one."""
        notices = awatch(
            *folders,
            watch_filter=None,
            debounce=NOTICE_MAX_MS,
            step=NOTICE_MS,
            stop_event=self._stop,
            rust_timeout=int(POLL_S * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(notices):
            async for changes in notices:
                is_same = await asyncio.to_thread(watched, self._files, self._folders) == folders
                if changes or not is_same:
                    self._wanted.set()
                if not is_same:
                    return


@contextlib.contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
