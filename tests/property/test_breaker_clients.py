"""Invariant I16 with many clients at once: each a thread with a connection of its own, on one real Redis."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from support.circuits import UP, at_once, tallied
from support.redis_server import RedisServer

from sentinel_ext.core.breaker import BreakerOptions, CircuitState, View
from sentinel_ext.store.circuits import Acquire, Operation, RedisCircuits, Release, Report, Result

if TYPE_CHECKING:
    from sentinel_ext.store.link import Script

Do: TypeAlias = Callable[[Operation], tuple[bool, View]]
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
# In real time, so cooldowns are short.
QUICK = BreakerOptions(
    consecutive_failures=3,
    min_requests=10**6,
    cooldown_ms=10,
    half_open_max=4,
    successes_needed=4,
    probe_ttl_ms=60,
)
CLIENTS = 8
RUN_S = 2.0


@dataclass
class Client:
    """One connection that reports, asks and answers as fast as it can, and writes down what it saw."""

    server: RedisServer
    name: str
    seed: int
    end_s: float
    granted: list[tuple[int, str]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    seen: list[tuple[float, float, View]] = field(default_factory=list)  # sent, answered, view
    error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  the test raises it
            self.error = error

    def _run(self) -> None:
        rng, number = random.Random(self.seed), itertools.count()
        mine: list[tuple[int, str]] = []
        with self.server.client() as client:

            async def evaluate(script: Script, keys: list[bytes], *args: bytes) -> Any:
                return client.eval(script.text.decode(), len(keys), *keys, *args)

            store = RedisCircuits(evaluate, self.name)

            def do(operation: Operation) -> tuple[bool, View]:
                sent = time.monotonic()
                ((done, view),) = at_once(store.call([operation]))
                self.seen.append((sent, time.monotonic(), view))
                return done, view

            epoch = 0
            while time.monotonic() < self.end_s:
                kind = rng.random()
                if kind < 0.2:
                    epoch = do(Report(UP, QUICK, epoch, tallied("f")))[1].epoch
                elif kind < 0.6 or not mine:
                    permit = f"{self.name}-{next(number)}"
                    done, view = do(Acquire(UP, QUICK, permit))
                    epoch = view.epoch
                    if done and view.state is HALF_OPEN:
                        mine.append((view.epoch, permit))
                        self.granted.append((view.epoch, permit))
                elif kind > 0.65:  # else its access log is lost
                    self._settle(rng, do, *mine.pop(rng.randrange(len(mine))))
                else:
                    mine.pop()

    def _settle(self, rng: random.Random, do: Do, epoch: int, permit: str) -> None:
        """Say how a probe ended, sometimes twice; or give it back."""
        if rng.random() < 0.15:
            if do(Release(UP, QUICK, permit))[0]:
                self.released.append(epoch)
            return
        for _ in range(rng.choice([1, 1, 2])):
            do(Result(UP, QUICK, epoch, permit, rng.random() < 0.8))


@pytest.fixture(scope="module")
def crowd(module_folder) -> list[Client]:
    """Run eight clients at once against one real Redis for two seconds."""
    server = RedisServer(module_folder).start()
    end_s = time.monotonic() + RUN_S
    clients = [Client(server, f"client{i}", i, end_s) for i in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    for client in clients:
        if client.error is not None:
            raise client.error
    return clients


def test_any_number_of_clients_at_once_get_no_more_permits_than_there_are(crowd):
    taken = Counter(epoch for client in crowd for epoch, _ in client.granted)
    for client in crowd:
        taken.subtract(client.released)

    assert len(taken) > 10, "the run saw many half-open epochs"
    assert QUICK.half_open_max == max(taken.values())
    assert 1 < len({client.name for client in crowd if client.granted})


def test_to_each_client_of_many_the_epoch_only_rises_and_has_one_state(crowd):
    states: dict[int, set[CircuitState]] = defaultdict(set)
    for client in crowd:
        epochs = [view.epoch for *_, view in client.seen]
        assert sorted(epochs) == epochs
        for *_, view in client.seen:
            states[view.epoch].add(view.state)

    assert {1} == {len(found) for found in states.values()}
    assert {CLOSED, OPEN, HALF_OPEN} == set.union(*states.values())


def test_among_many_clients_open_lasts_at_least_its_cooldown(crowd):
    """Both ends are known to the width of the calls that saw them, taken so that the test never errs."""
    first_sent: dict[int, float] = {}
    first_answered: dict[int, float] = {}
    levels = {}
    for sent, answered, view in itertools.chain.from_iterable(client.seen for client in crowd):
        epoch = view.epoch
        first_sent[epoch] = min(sent, first_sent.get(epoch, sent))
        first_answered[epoch] = min(answered, first_answered.get(epoch, answered))
        if view.state is OPEN:
            levels[epoch] = view.level
    spans = {
        epoch: (first_answered[epoch + 1] - first_sent[epoch]) * 1000 - (QUICK.cooldown_ms << level)
        for epoch, level in levels.items()
        if epoch + 1 in first_answered
    }

    assert len(spans) > 10
    # Redis' clock is read in whole milliseconds.
    assert min(spans.values()) > -1
