"""Children are started, watched and stopped; none is left, whatever they do. Real, small processes."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.demo.processes import Child, Crew
from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
TALKER = "print('one'); print(); print('two'); raise SystemExit(3)"


@pytest.fixture
async def crew(tmp_path: Path):
    async with AsyncExitStack() as exits:
        yield Crew(tmp_path, exits)


async def start(crew: Crew, code: str, name: str = "Child") -> Child:
    return await crew.start(name, [sys.executable, "-I", "-S", "-c", code])


async def up(child: Child) -> None:
    async def has_spoken() -> bool:
        return child.last_lines() == ["up"]

    await child.wait_ready(has_spoken, timeout_s=20)


async def never() -> bool:
    return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_is_the_program_itself_in_a_session_of_its_own(crew: Crew) -> None:
    child = await start(crew, f"import os; print(os.getpid(), os.getsid(0)); {SLEEPER}")

    async def has_spoken() -> bool:
        return len(child.last_lines()) == 2

    await child.wait_ready(has_spoken)

    assert child.last_lines()[0] == f"{child.pid} {child.pid}"


async def test_the_environment_given_is_the_childs(crew: Crew) -> None:
    child = await crew.start(
        "Child",
        [sys.executable, "-I", "-S", "-c", "import os; print(os.environ['PORT'], 'HOME' in os.environ)"],
        {"PORT": "1"},
    )

    await child.ended

    assert child.last_lines() == ["1 False"]


async def test_a_child_that_ends_early_is_told_with_its_last_words(crew: Crew) -> None:
    child = await start(crew, TALKER)

    with pytest.raises(StartError) as caught:
        await child.wait_ready(never)

    assert str(caught.value).splitlines() == [
        "Child ended with exit code 3; its last lines may say why",
        "  Child | one",
        "  Child | two",
    ]


async def test_a_child_that_does_not_get_ready_is_told_with_how_long_it_took(crew: Crew) -> None:
    child = await start(crew, SLEEPER)

    with pytest.raises(StartError, match=r"Child was not ready within 0\.05 s"):
        await child.wait_ready(never, timeout_s=0.05)


async def test_an_error_of_the_question_is_not_swallowed(crew: Crew) -> None:
    child = await start(crew, SLEEPER)

    async def broken() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await child.wait_ready(broken)


async def test_the_death_of_any_child_is_noticed(crew: Crew) -> None:
    first, second = await start(crew, SLEEPER, "First"), await start(crew, SLEEPER, "Second")
    watch = asyncio.create_task(crew.watch())
    await up(first)

    os.kill(first.pid, 9)

    with pytest.raises(StartError, match=r"First was ended by SIGKILL; .*\n  First \| up"):
        await asyncio.wait_for(watch, 5)
    assert not second.ended.done()


async def test_a_silent_death_says_what_to_do(crew: Crew) -> None:
    child = await start(crew, "raise SystemExit(0)")

    with pytest.raises(StartError) as caught:
        await child.wait_ready(never)

    assert str(caught.value) == "Child ended with exit code 0; start the demo again"


async def test_the_last_started_is_stopped_first_and_none_is_left(tmp_path: Path) -> None:
    ended: list[str] = []
    async with AsyncExitStack() as exits:
        crew = Crew(tmp_path, exits)
        children = [await start(crew, SLEEPER, name) for name in ("Redis", "Sentinel", "Envoy")]
        for child in children:
            child.ended.add_done_callback(lambda _, name=child.name: ended.append(name))
        watch = asyncio.create_task(crew.watch())
        await up(children[-1])

    assert ended == ["Envoy", "Sentinel", "Redis"]
    assert not any(is_alive(child.pid) for child in children)
    assert not watch.done()  # being stopped is not dying
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_a_child_that_ignores_sigterm_is_killed(crew: Crew) -> None:
    child = await start(crew, STUBBORN)
    await up(child)

    await child.stop(grace_s=0.05)

    assert child.ended.result() == -9


async def test_only_the_end_of_a_long_log_is_shown(crew: Crew) -> None:
    child = await start(crew, "for i in range(20_000): print('line', i)")
    await child.ended

    assert child.last_lines(2) == ["line 19998", "line 19999"]


async def test_a_program_that_cannot_be_started_says_so(crew: Crew, tmp_path: Path) -> None:
    child = await crew.start("Envoy", [str(tmp_path / "gone")])

    with pytest.raises(StartError, match=r"cannot start .*/gone: No such file or directory"):
        await child.wait_ready(never)
