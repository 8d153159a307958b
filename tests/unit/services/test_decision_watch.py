"""Watching: filters, sampling, and the bounds that keep it away from the requests."""

from __future__ import annotations

import pytest
from support.build import make_check, make_decision, make_denial, make_tenant

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb
from sentinel_ext.core.model import Stage
from sentinel_ext.services.decision_watch import MAX_PER_SECOND, MAX_WATCHERS, Watching
from sentinel_ext.services.registry import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE


class Stream:
    """A client that reads until it is told not to."""

    def __init__(self):
        self.events, self.ended, self.reads = [], None, True

    def send(self, message):
        self.events.append(pb.DecisionEvent.FromString(message))
        return self.reads

    def finish(self, status=0, text=""):
        self.ended = (status, text)
        return True


class House:
    def __init__(self):
        self.now_ns = 10**9
        self.watching = Watching(lambda: self.now_ns, lambda: 1_700_000_000.5)
        self.told = []
        self.watching.changed = self.told.append

    def watch(self, **request):
        stream = Stream()
        stream.watcher = self.watching.open(stream)
        stream.watcher.on_message(pb.WatchDecisionsRequest(**request).SerializeToString())
        stream.watcher.on_half_close()
        return stream


@pytest.fixture
def house():
    return House()


def test_an_event_says_what_the_decision_does(house):
    stream = house.watch()
    house.watching.decided(make_denial(check=make_check(make_tenant(name="globex"))), 250_000)
    (event,) = stream.events

    assert ("check", False, "window", "rate_limited") == (
        event.kind,
        event.allowed,
        event.stage,
        event.reason,
    )
    assert ("globex", "silver", "standard", 250) == (event.tenant, event.plan, event.tier, event.duration_us)
    assert 1_700_000_000_500 == event.time.ToMilliseconds()


@pytest.mark.parametrize(
    ("request_", "seen"),
    [
        ({}, 3),
        ({"verdict": "deny"}, 1),
        ({"verdict": "allow"}, 2),
        ({"tenants": ["globex"]}, 1),
        ({"stages": ["bucket"]}, 1),
        ({"upstreams": ["orders"]}, 1),
        ({"kind": "check"}, 3),
        ({"kind": "rate_limit"}, 0),
        ({"tenants": ["globex"], "verdict": "deny"}, 0),
    ],
)
def test_a_watcher_sees_what_it_asked_for(house, request_, seen):
    stream = house.watch(**request_)
    for decision in (
        make_decision(check=make_check(make_tenant(name="globex"))),
        make_decision(stage=Stage.BUCKET),
        make_denial(check=make_check(upstream="orders")),
    ):
        house.watching.decided(decision, 0)

    assert seen == len(stream.events)


def test_a_sample_is_the_same_for_all_and_about_as_large_as_asked(house):
    streams = [house.watch(sample=0.25) for _ in range(2)]
    for number in range(400):
        house.watching.decided(
            make_decision(check=make_check(decision_id=f"{number * 0x9E3779B9 % 2**32:08x}00000000")), 0
        )
        house.now_ns += 10**9

    ids = [[event.decision_id for event in stream.events] for stream in streams]
    assert ids[0] == ids[1]
    assert 80 <= len(ids[0]) <= 120


def test_a_slow_reader_misses_and_is_told_how_many(house):
    stream = house.watch()
    stream.reads = False
    for _ in range(5):
        house.watching.decided(make_decision(), 0)
    stream.reads = True
    stream.watcher.on_writable()
    house.watching.decided(make_decision(), 0)

    assert [0, 4] == [event.missed for event in stream.events]
    assert 4 == house.watching.missed


def test_there_is_a_bound_per_second_for_all_together(house):
    streams = [house.watch() for _ in range(2)]
    for _ in range(MAX_PER_SECOND):
        house.watching.decided(make_decision(), 0)

    assert MAX_PER_SECOND == sum(len(stream.events) for stream in streams)
    assert MAX_PER_SECOND == house.watching.missed


def test_there_is_a_bound_of_watchers_and_a_place_becomes_free(house):
    streams = [house.watch() for _ in range(MAX_WATCHERS)]
    refused = house.watch()
    streams[0].watcher.on_cancel()
    taken = house.watch()

    assert RESOURCE_EXHAUSTED == refused.ended[0]
    assert taken.ended is None


def test_the_request_path_hears_only_of_the_first_and_the_last(house):
    first, second = house.watch(), house.watch()
    first.watcher.on_cancel()
    second.watcher.on_cancel()
    second.watcher.on_cancel()

    assert [True, False] == house.told


def test_what_is_no_request_ends_the_stream(house):
    garbage, nothing, drained = Stream(), Stream(), house.watch()
    house.watching.open(garbage).on_message(b"\xff\xff")
    house.watching.open(nothing).on_half_close()
    drained.watcher.on_drain()

    assert [INVALID_ARGUMENT, INVALID_ARGUMENT, UNAVAILABLE] == [
        stream.ended[0] for stream in (garbage, nothing, drained)
    ]
