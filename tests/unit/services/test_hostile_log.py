"""Access logs as bytes into a real Controller: bad ones are counted and move neither breaker nor flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.build import make_policy
from support.log_messages import http_entry, message, metadata
from support.overload import RULES, START_NS, circuit_of, make_controller, see, trying

from sentinel_ext.core.controller import MAX_ELSEWHERE, MAX_INSTANCES
from sentinel_ext.core.ended import Result
from sentinel_ext.core.hearing import MAX_STREAMS
from sentinel_ext.core.outbox import MAX_RESULTS
from sentinel_ext.core.recent import MAX_NAMES
from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.services.access_log import AccessLogs
from sentinel_ext.services.log_entry import MAX_REMEMBERED
from sentinel_ext.telemetry.labels import MAX_ROUTES
from sentinel_ext.telemetry.red import Red

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel_ext.services.registry import StreamHandler

UP = "orders"
VITAL = 0
YEAR_US = 365 * 24 * 3600 * 1_000_000
MANY = 100_000
BATCH = 1_000


class Call:
    """A stream of which nobody reads the end."""

    peer = "ipv4:192.0.2.7:4711"
    metadata = ()

    def send(self, data: bytes) -> bool:
        return True

    def finish(self, status: int = 0, text: str = "") -> bool:
        return True


class House:
    """The service over a controller, as the program wires them."""

    def __init__(self) -> None:
        policy = make_policy(upstreams={UP: RULES}, default_upstream=RULES)
        self.controller = make_controller(policy)
        self.faults: list[Exception] = []
        self.red = Red()
        self.now_ns = START_NS
        self.logs = AccessLogs(
            lambda ended: self.controller.ended(ended, self.now_ns),
            self.red,
            self.faults.append,
            lambda stream, count: self.controller.heard(stream, count, self.now_ns),
            policy.upstream,
        )
        self.stream = self.open()
        self._told = 0

    def open(self) -> StreamHandler:
        (method,) = self.logs.methods()
        return method.open(Call())

    def start(self, count: int = 1) -> str:
        """Let vital requests out; give their ticket."""
        protected = self.controller.upstream(UP)
        for _ in range(count):
            assert protected.load.admit("acme", VITAL) is not None
        return protected.ticket

    def entry(
        self, ticket: str, *, number: int = 0, fields: dict[str, Any] | None = None, **entry: Any
    ) -> Any:
        """One of a request that failed, unless told otherwise."""
        self._told += 1
        said = {"ticket": ticket, **(fields or {})}
        return http_entry(metadata(number or self._told, **said), **{"status": 503, **entry})

    def take(self, *entries: Any, node: str = "envoy-1") -> None:
        self.stream.on_message(message(*entries, node=node))

    @property
    def results(self) -> dict[Result, int]:
        return {result: count for result, count in self.logs.results.items() if count}

    @property
    def state(self) -> tuple[int, int, int, int]:
        """In flight; failures and successes the breaker counts; requests that the pressure counts."""
        protected = self.controller.upstream(UP)
        circuit = circuit_of(self.controller, UP)
        batch = circuit.take_batch()
        circuit.put_back(batch)
        now = protected.load.traffic.now
        return protected.load.flight.total, batch.failed, batch.ok, now.ok + now.failed


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    assert [] == house.faults


def test_an_honest_end_moves_all_three_once(house):
    ticket = house.start(3)

    house.take(house.entry(ticket))

    assert ({Result.COUNTED: 1}, (2, 1, 0, 1)) == (house.results, house.state)


def without_metadata(house: House, ticket: str) -> Any:
    return http_entry(None, status=503)


def of_another_service(house: House, ticket: str) -> Any:
    return http_entry({"user": "bob", "ticket": ticket}, status=503)


def of_another_filter(house: House, ticket: str) -> Any:
    return house.entry(ticket, namespace="envoy.filters.http.lua")


def with_a_broken_ticket(house: House, ticket: str) -> Any:
    return house.entry(ticket.upper() + "..")


def of_a_start_that_never_was(house: House, ticket: str) -> Any:
    return house.entry("i1.abc.0")


def of_an_expired_permit(house: House, ticket: str) -> Any:
    return house.entry("i1.abc.0.p1")


def of_another_tier(house: House, ticket: str) -> Any:
    return house.entry(ticket, fields={"tier": "economy"})


def of_an_invented_upstream(house: House, ticket: str) -> Any:
    return house.entry(ticket, fields={"upstream": "never-heard-of"})


def of_a_refusal(house: House, ticket: str) -> Any:
    return house.entry(ticket, fields={"allowed": False, "reason": "shed"})


def of_an_attempt(house: House, ticket: str) -> Any:
    return house.entry(ticket, kind=4)  # UpstreamEnd


@pytest.mark.parametrize(
    ("bad", "result"),
    [
        (without_metadata, Result.NO_METADATA),
        (of_another_service, Result.FOREIGN_METADATA),
        (of_another_filter, Result.NO_METADATA),
        (with_a_broken_ticket, Result.BAD_TICKET),
        (of_a_start_that_never_was, Result.UNMATCHED),
        (of_an_expired_permit, Result.EXPIRED_PERMIT),
        (of_another_tier, Result.UNMATCHED),
        (of_an_invented_upstream, Result.UNMATCHED),
        (of_a_refusal, Result.DENIED),
        (of_an_attempt, Result.INTERMEDIATE),
    ],
)
def test_a_bad_entry_is_counted_and_moves_nothing(house, bad, result):
    ticket = house.start(50)

    for _ in range(20):
        house.take(bad(house, ticket))

    assert ({result: 20}, (50, 0, 0, 0)) == (house.results, house.state)
    assert [UP] == list(house.controller.upstreams)


def test_a_duplicate_moves_nothing_whatever_stream_it_comes_by(house):
    ticket = house.start(50)
    house.take(house.entry(ticket, number=7))

    for _ in range(20):
        house.stream = house.open()
        house.take(house.entry(ticket, number=7))

    assert ({Result.COUNTED: 1, Result.DUPLICATE: 20}, (49, 1, 0, 1)) == (house.results, house.state)


def test_ends_out_of_order_all_count(house):
    tickets = []
    for tick in range(1, 6):
        tickets.append(house.start())
        house.now_ns = START_NS + tick * 100_000_000
        house.controller.tick(LocalSignals(), house.now_ns)

    house.take(*(house.entry(ticket) for ticket in reversed(tickets)))

    assert ({Result.COUNTED: 5}, (0, 5, 0, 5)) == (house.results, house.state)


@pytest.mark.parametrize(
    "times_us",
    [(1_000, -5_000, -4_000), (-1, -1, -1), (1_000, YEAR_US, YEAR_US), (YEAR_US, 1_000, 2_000)],
    ids=["negative", "all negative", "a year", "answered before it was sent"],
)
def test_an_absurd_duration_ends_the_request_and_says_nothing_of_latency(house, times_us):
    ticket = house.start(3)

    house.take(house.entry(ticket, status=200, times_us=times_us))

    assert ({Result.BAD_DURATION: 1}, (2, 0, 1, 1)) == (house.results, house.state)
    report = house.controller.upstream(UP).load.publish(START_NS + 200_000_000)
    assert (0, 0.0, 0) == (report.timed, report.latency_ms, report.slow)
    assert 0 == circuit_of(house.controller, UP).take_batch().slow


@pytest.mark.parametrize("seconds", [-62_135_596_800, 0, 253_402_300_799])
def test_an_envoy_s_own_clock_says_nothing(house, seconds):
    ticket = house.start()
    entry = house.entry(ticket, status=200)
    entry.common_properties.start_time.seconds = seconds

    house.take(entry)

    report = house.controller.upstream(UP).load.publish(START_NS + 200_000_000)
    assert ({Result.COUNTED: 1}, 5.0) == (house.results, report.latency_ms)


def test_a_stream_that_never_names_its_node_counts(house):
    house.take(house.entry(house.start()), node="")

    assert ({Result.COUNTED: 1}, 1) == (house.results, house.logs.anonymous)


def test_an_instance_that_nobody_knows_is_another_one_and_its_flight_is_not_ours(house):
    """After a restart Envoy still tells of requests that the process before it let out."""
    house.start(5)

    house.take(*(house.entry("gone.5.0") for _ in range(3)))

    assert ({Result.COUNTED: 3}, (5, 3, 0, 3)) == (house.results, house.state)


def test_permits_that_a_log_invents_do_not_close_a_half_open_breaker(house):
    ticket = house.start(20)
    circuit = see(house.controller, trying(epoch=9), UP)

    stem = ticket.rpartition(".")[0]
    house.take(*(house.entry(f"{stem}.9.p{number}", status=200) for number in range(20)))

    assert ([], 20, False) == (list(circuit.take_results()), circuit.unknown_permits, circuit.is_closed)


NUMBER = "fffffff"  # in a template, to be replaced by seven hex digits


def invented(house: House, ticket: str, **fields: str) -> bytes:
    """An entry whose names nobody has seen before, once its number is filled in."""
    names = {name: f"{name}-{NUMBER}" for name in ("tenant", "upstream", "decision_id", "route")}
    return message(house.entry(ticket, fields={**names, **fields}))


def test_a_hundred_thousand_entries_that_invent_everything_fill_no_memory(house):
    """Tenants, upstreams, instances, generations, permits, routes and ids."""
    ticket = house.start(10)
    templates = [
        invented(house, f"x{NUMBER}.a{NUMBER}.0"),
        invented(house, f"x{NUMBER}.a{NUMBER}.0", upstream=UP),
        invented(house, f"x.a{NUMBER}.0", upstream=UP),
        invented(house, f"x.1.9.p{NUMBER}", upstream=UP),
    ]

    for first in range(0, MANY, BATCH):
        template = templates[first // BATCH % len(templates)]
        house.stream.on_message(
            b"".join(template.replace(NUMBER.encode(), b"%07x" % n) for n in range(first, first + BATCH))
        )

    controller, reader = house.controller, house.logs._reader
    assert ({Result.UNMATCHED: MANY // 4, Result.COUNTED: MANY * 3 // 4}, 10) == (
        house.results,
        house.state[0],
    )
    assert ([UP], ticket) == (list(controller.upstreams), controller.upstream(UP).ticket)
    waiting = controller.upstream(UP).elsewhere
    assert len(waiting) <= MAX_INSTANCES
    assert sum(map(len, waiting.values())) <= MAX_ELSEWHERE
    assert MAX_RESULTS == len(circuit_of(controller, UP).take_results(MANY))
    assert len(reader._recent) <= 2 * MAX_NAMES
    tables = (reader._names._texts, reader._names._plain, reader._names._tickets, reader._blames)
    assert all(len(table) <= MAX_REMEMBERED for table in tables)
    assert len(house.red._by_route) <= MAX_ROUTES + 2


def test_streams_without_number_fill_no_memory(house):
    for _ in range(2 * MAX_STREAMS):
        house.stream.on_cancel()
        house.stream = house.open()
        house.take()

    assert (MAX_STREAMS, 1) == (len(house.controller.hearing._cadence), house.logs.streams)
