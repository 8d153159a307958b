"""One instance's sight of a breaker, against the shared machine and against views made by hand."""

from __future__ import annotations

import msgspec
import pytest
from support.build import NS_PER_MS
from support.overload import CLOSED, HALF_OPEN, OPEN, START_NS, ms, opened, trying

from sentinel_ext.core.breaker import LOCAL_EPOCHS, Breaker, BreakerOptions, Force, TripReason, View, alone
from sentinel_ext.core.circuit import OTHERS_WAIT_NS, URGENT_GAP_NS, VERDICT_MS, Circuit
from sentinel_ext.core.outbox import MAX_RESULTS, PermitResult
from sentinel_ext.core.tally import NOTHING, Batch

OPTIONS = BreakerOptions(
    consecutive_failures=5, min_requests=20, cooldown_ms=1_000, half_open_max=3, probe_ttl_ms=5_000
)
UNTROUBLED = View(epoch=7)


def heard(view: View = UNTROUBLED, options: BreakerOptions = OPTIONS) -> Circuit:
    """Make a circuit that has seen `view` at the start."""
    circuit = Circuit(options, START_NS)
    circuit.adopt(view, START_NS)
    return circuit


def failures(circuit: Circuit, count: int, now_ns: int = START_NS) -> None:
    for _ in range(count):
        circuit.ended(circuit.epoch, "", False, False, now_ns)


def test_starts_closed_and_asks_how_things_stand():
    circuit = Circuit(OPTIONS, START_NS)

    assert (True, 0, 0) == (circuit.is_closed, circuit.epoch, circuit.refusal_ms(START_NS))
    assert circuit.is_urgent(START_NS)
    assert NOTHING == circuit.take_batch()
    circuit.adopt(View(epoch=3), START_NS)
    assert not circuit.is_urgent(ms(100))
    assert 3 == circuit.epoch


def test_follows_the_shared_breaker_and_tells_each_change_once():
    circuit = heard()

    change = circuit.adopt(opened(), START_NS)

    assert change is not None
    assert (CLOSED, OPEN, 8, TripReason.FAILURE_RATE, False) == (
        change.before, change.after, change.epoch, change.reason, change.is_local,
    )  # fmt: skip
    assert circuit.adopt(opened(900), ms(100)) is None
    assert not circuit.is_closed
    assert (900, 1) == (circuit.refusal_ms(ms(100)), circuit.refusal_ms(ms(999.5)))


def test_an_overtaken_answer_changes_nothing():
    circuit = heard(opened(epoch=8))

    assert circuit.adopt(View(epoch=7), START_NS) is None
    assert (OPEN, 8) == (circuit.state, circuit.epoch)


def test_flips_by_time_without_asking():
    circuit = heard(opened(1_000))
    circuit.tick(START_NS)

    assert circuit.tick(ms(999)) is None
    assert not circuit.wants_permit(True, ms(999))
    change = circuit.tick(ms(1_000))

    assert change is not None
    assert (OPEN, HALF_OPEN) == (change.before, change.after)
    assert VERDICT_MS == circuit.refusal_ms(ms(1_000))
    assert circuit.wants_permit(True, ms(1_000))


def test_a_forced_breaker_does_not_flip():
    circuit = heard(opened(1_000, forced=Force.OPEN))

    assert not circuit.wants_permit(True, ms(10**6))
    assert circuit.tick(ms(10**6)) is None
    assert (OPEN, 1_000) == (circuit.state, circuit.refusal_ms(ms(10**6)))


def test_nobody_asks_for_a_permit_that_none_needs():
    circuit = heard()

    assert not circuit.wants_permit(True, START_NS)


def test_vital_requests_probe_first_and_others_after_half_a_second_without():
    circuit = heard(trying())
    wait_ms = OTHERS_WAIT_NS // NS_PER_MS

    assert not circuit.wants_permit(False, ms(wait_ms - 1))
    assert circuit.wants_permit(True, ms(wait_ms - 1))
    assert not circuit.wants_permit(False, ms(2 * wait_ms - 2))
    assert circuit.wants_permit(False, ms(2 * wait_ms - 1))


def test_no_more_ask_at_a_time_than_could_be_granted():
    circuit = heard(trying(permits=1))

    assert [True, True, False, False] == [circuit.wants_permit(True, START_NS) for _ in range(4)]
    circuit.permit_reply("a", True, trying(permits=2), START_NS)
    circuit.permit_failed("b")
    assert [True, False] == [circuit.wants_permit(True, START_NS) for _ in range(2)]


def test_after_the_last_permit_nobody_asks_until_one_is_free():
    circuit = heard(trying())
    assert circuit.wants_permit(True, START_NS)
    circuit.permit_reply("a", False, trying(permits=3), START_NS)

    assert not circuit.wants_permit(True, ms(300))
    circuit.adopt(trying(permits=2), ms(400))
    assert circuit.wants_permit(True, ms(400))


def test_a_granted_request_holds_its_permit_and_others_none():
    circuit = heard(trying())
    circuit.wants_permit(True, START_NS)

    circuit.permit_reply("a", True, trying(permits=1), START_NS)

    assert (True, False) == (circuit.holds("a"), circuit.holds("b"))


def test_a_grant_of_an_epoch_that_is_over_is_void():
    circuit = heard(trying(epoch=9))
    circuit.wants_permit(True, START_NS)
    circuit.adopt(opened(epoch=10), START_NS)

    circuit.permit_reply("a", True, trying(permits=1, epoch=9), START_NS)

    assert not circuit.holds("a")
    assert OPEN == circuit.state


def test_a_breaker_found_closed_needs_no_permit():
    circuit = heard(trying())
    circuit.wants_permit(True, START_NS)

    change = circuit.permit_reply("a", True, View(epoch=10), START_NS)

    assert change is not None
    assert (CLOSED, True, False) == (change.after, circuit.is_closed, circuit.holds("a"))


def test_a_permit_whose_answer_was_lost_is_given_back():
    circuit = heard(trying())
    circuit.wants_permit(True, START_NS)

    circuit.permit_failed("a")

    assert [PermitResult(9, "a", None)] == circuit.take_results()


def granted(slow_rate: float | None = None) -> Circuit:
    circuit = heard(trying(), msgspec.structs.replace(OPTIONS, slow_rate=slow_rate))
    circuit.wants_permit(True, START_NS)
    circuit.permit_reply("a", True, trying(permits=1), START_NS)
    return circuit


@pytest.mark.parametrize(
    ("slow_rate", "success", "slow", "ok"),
    [
        (None, True, False, True),
        (None, True, True, True),
        (None, False, False, False),
        (0.5, True, True, False),
        (0.5, True, False, True),
    ],
)
def test_a_probes_result_waits_for_the_next_report_which_is_urgent(slow_rate, success, slow, ok):
    circuit = granted(slow_rate)

    circuit.ended(9, "a", success, slow, START_NS)

    assert circuit.is_urgent(START_NS)
    assert [PermitResult(9, "a", ok)] == circuit.take_results()
    assert [] == circuit.take_results()


def test_what_is_not_this_epochs_or_not_known_is_counted_apart():
    circuit = granted()

    circuit.ended(8, "", False, False, START_NS)
    circuit.ended(8, "a", False, False, START_NS)
    circuit.ended(9, "", False, False, START_NS)  # nothing passed without a permit in this epoch
    circuit.ended(9, "stranger", False, False, START_NS)
    circuit.ended(9, "a", True, False, START_NS)
    circuit.ended(9, "a", False, False, START_NS)

    assert (3, 2) == (circuit.stale, circuit.unknown_permits)
    assert [PermitResult(9, "a", True)] == circuit.take_results()
    assert NOTHING == circuit.take_batch()


def test_a_request_that_did_not_go_out_gives_its_permit_back_once():
    circuit = granted()

    for _ in range(2):
        circuit.release("a", START_NS)

    assert [PermitResult(9, "a", None)] == circuit.take_results()
    assert not circuit.holds("a")


def test_results_that_wait_have_a_bound():
    circuit = heard(trying())

    circuit.put_back_results([PermitResult(9, f"p{i}", True) for i in range(MAX_RESULTS + 3)])

    assert 3 == circuit.lost_results
    assert MAX_RESULTS - 10 == len(circuit.take_results(MAX_RESULTS - 10))
    assert 10 == len(circuit.take_results())


def test_reports_what_ended_since_the_last_report():
    circuit = heard()
    failures(circuit, 2)
    circuit.ended(7, "", True, True, START_NS)

    batch = circuit.take_batch()

    assert Batch(1, 2, 1, 2, 0, 2, batch.serial) == batch
    assert NOTHING == circuit.take_batch()


def test_a_failed_report_is_repeated_as_it_was_and_nothing_is_lost():
    circuit = heard()
    failures(circuit, 2)
    first = circuit.take_batch()
    failures(circuit, 1)

    circuit.put_back(first)

    assert first == circuit.take_batch()
    second = circuit.take_batch()
    assert (1, True) == (second.failed, second.serial > first.serial)


def test_a_report_that_arrived_although_it_failed_counts_once():
    shared, circuit = Breaker(OPTIONS), Circuit(OPTIONS, START_NS)
    newest, sent = 0, []
    for _ in range(3):
        failures(circuit, 1)
        batch = circuit.take_batch()
        sent.append(batch)
        if batch.serial > newest:  # as the store does
            newest = batch.serial
            shared.report(0, batch, 0)
        circuit.put_back(batch)

    assert 1 == len(set(sent))
    assert 1 == shared.view(0).failed


def test_counts_of_an_epoch_that_is_over_are_dropped_and_counted():
    circuit = heard()
    failures(circuit, 2)
    under_way = circuit.take_batch()
    failures(circuit, 1)

    circuit.adopt(View(epoch=10), START_NS)
    circuit.put_back(under_way)

    assert 3 == circuit.stale
    assert NOTHING == circuit.take_batch()


def test_serials_of_a_circuit_made_anew_go_on():
    before = Circuit(OPTIONS, START_NS)
    failures(before, 1)
    after = Circuit(OPTIONS, ms(1))
    failures(after, 1)

    assert before.take_batch().serial < after.take_batch().serial


@pytest.mark.parametrize(("count", "urgent"), [(4, False), (5, True)])
def test_failures_that_would_trip_alone_are_reported_at_once(count, urgent):
    circuit = heard()
    failures(circuit, count)

    assert urgent is circuit.is_urgent(START_NS)


def test_a_share_that_would_trip_alone_is_reported_at_once():
    circuit = heard()
    for i in range(20):
        circuit.ended(7, "", i % 2 == 0, False, START_NS)

    assert circuit.is_urgent(START_NS)


def test_urgent_reports_keep_a_distance():
    circuit = heard()
    failures(circuit, 5)

    assert circuit.is_urgent(START_NS)
    assert not circuit.is_urgent(START_NS + URGENT_GAP_NS - 1)
    assert circuit.is_urgent(START_NS + URGENT_GAP_NS)


@pytest.mark.parametrize(("instances", "least"), [(0, 20), (1, 20), (2, 10), (3, 7), (4, 5), (100, 5)])
def test_alone_an_instance_goes_by_its_share_of_the_traffic(instances, least):
    options = alone(OPTIONS, instances)

    assert (least, 1, 1) == (options.min_requests, options.half_open_max, options.successes_needed)


def test_a_minimum_below_the_least_share_stays():
    assert 2 == alone(msgspec.structs.replace(OPTIONS, min_requests=2), 3).min_requests


def test_alone_it_counts_on_what_it_had_not_reported_and_trips():
    circuit = heard()
    failures(circuit, 2)
    circuit.put_back(circuit.take_batch())
    failures(circuit, 1)

    assert circuit.store_lost(2, START_NS) is None
    assert (True, True, 7) == (circuit.is_local, circuit.is_closed, circuit.epoch)
    failures(circuit, 2)
    change = circuit.tick(START_NS)

    assert change is not None
    assert (OPEN, TripReason.CONSECUTIVE_FAILURES, True) == (change.after, change.reason, change.is_local)
    assert LOCAL_EPOCHS == circuit.epoch
    assert (NOTHING, False) == (circuit.take_batch(), circuit.is_urgent(ms(100)))


def test_requests_of_before_the_outage_still_count_in_it():
    circuit = heard()
    circuit.store_lost(1, START_NS)

    failures(circuit, 5)

    assert (OPEN, 0) == (circuit.state, circuit.stale)


def test_alone_it_stays_open_for_the_rest_and_tries_with_one_probe():
    circuit = heard(opened(1_000))
    circuit.store_lost(4, ms(400))

    assert (OPEN, 600) == (circuit.state, circuit.refusal_ms(ms(400)))
    assert not circuit.wants_permit(True, ms(999))
    assert circuit.wants_permit(True, ms(1_000))
    assert circuit.acquire_locally("a", ms(1_000))
    assert not circuit.wants_permit(True, ms(1_001))
    assert not circuit.acquire_locally("b", ms(1_001))
    circuit.ended(circuit.epoch, "a", True, False, ms(1_010))

    assert circuit.is_closed
    assert [] == circuit.take_results(), "the shared breaker knows nothing of this epoch"


def test_alone_a_failed_probe_and_a_lost_one_open_again():
    circuit = heard(opened(1_000))
    circuit.store_lost(4, START_NS)
    circuit.wants_permit(True, ms(1_000))
    circuit.acquire_locally("a", ms(1_000))
    circuit.ended(circuit.epoch, "a", False, False, ms(1_010))
    assert (OPEN, TripReason.PROBE_FAILED) == (circuit.state, circuit.view.reason)

    later = 1_010 + circuit.refusal_ms(ms(1_010))
    assert circuit.wants_permit(True, ms(later))
    assert circuit.acquire_locally("b", ms(later))
    circuit.tick(ms(later + OPTIONS.probe_ttl_ms))

    assert (OPEN, TripReason.PROBE_LOST, 2) == (circuit.state, circuit.view.reason, circuit.view.level)


def test_alone_a_released_permit_may_be_asked_for_again():
    circuit = heard(trying())
    circuit.store_lost(2, START_NS)
    circuit.wants_permit(True, START_NS)
    circuit.acquire_locally("a", START_NS)

    circuit.release("a", START_NS)

    assert circuit.wants_permit(True, START_NS)
    assert circuit.acquire_locally("b", START_NS)


def test_a_probe_under_way_when_the_store_goes_is_the_one_probe():
    circuit = granted()
    circuit.store_lost(2, START_NS)

    assert not circuit.wants_permit(True, START_NS)
    circuit.ended(9, "a", True, False, START_NS)

    assert circuit.is_closed
    assert [PermitResult(9, "a", True)] == circuit.take_results(), "the store may be back before it is lost"


def test_without_an_outage_there_is_nothing_to_ask_locally():
    assert not heard(trying()).acquire_locally("a", START_NS)


def test_with_the_store_back_the_shared_breaker_rules():
    circuit = heard()
    circuit.store_lost(2, START_NS)
    failures(circuit, 5)
    circuit.tick(START_NS)

    change = circuit.adopt(View(epoch=7), ms(100))

    assert change is not None
    assert (OPEN, CLOSED, 7, False) == (change.before, change.after, circuit.epoch, change.is_local)
    assert not circuit.is_local


def test_epochs_of_two_outages_differ():
    circuit, epochs = heard(), []
    for _ in range(3):
        circuit.store_lost(2, START_NS)
        failures(circuit, 5)
        epochs.append(circuit.epoch)
        circuit.adopt(View(epoch=7), START_NS)

    assert [LOCAL_EPOCHS, LOCAL_EPOCHS + 1, LOCAL_EPOCHS + 2] == epochs


def test_losing_the_store_twice_is_losing_it_once():
    circuit = heard()
    circuit.store_lost(2, START_NS)
    failures(circuit, 4)

    assert circuit.store_lost(3, START_NS) is None
    failures(circuit, 1)

    assert OPEN == circuit.state


def test_a_forced_breaker_stays_forced_alone():
    circuit = heard(View(epoch=7, forced=Force.CLOSED))
    circuit.store_lost(2, START_NS)

    failures(circuit, 50)

    assert circuit.is_closed


def test_a_probe_of_another_instance_that_ended_here_is_passed_on():
    circuit = heard(trying())

    circuit.ended_elsewhere(9, "theirs", True)
    circuit.ended_elsewhere(LOCAL_EPOCHS, "of their own breaker", False)

    assert [PermitResult(9, "theirs", True)] == circuit.take_results()
