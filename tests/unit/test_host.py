"""What the machine's files say, whatever is in them; percentiles of the last seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel_ext.core.signals import LocalSignals
from sentinel_ext.host import LOOK_UP_NS, MAX_FILE_BYTES, SLOTS, SPAN_NS, HostSignals

MS = 1_000_000
S = 1_000_000_000
GROUP = "sys/fs/cgroup/system.slice/sentinel"
NOTHING = LocalSignals()


class Machine:
    """A tree of the kernel's files, and the signals that are read from it."""

    def __init__(self, root: Path, group: str = GROUP) -> None:
        self.root, self.group = root, group
        self.write("proc/self/cgroup", f"0::/{group.removeprefix('sys/fs/cgroup').strip('/')}\n")
        self.usage(0)
        for resource in ("cpu", "memory", "io"):
            self.stalled(resource, 0)

    def write(self, path: str, text: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())

    def usage(self, used_us: int) -> None:
        self.write(f"{self.group}/cpu.stat", f"usage_usec {used_us}\nuser_usec 5\nsystem_usec 7\n")

    def stalled(self, resource: str, some_us: int, full_us: int | None = None, folder: str = "") -> None:
        full_us = some_us if full_us is None else full_us
        name = f"{folder}/{resource}" if folder else f"{self.group}/{resource}.pressure"
        lines = [
            f"{kind} avg10=1.50 avg60=0.10 avg300=0.00 total={us}\n"
            for kind, us in (("some", some_us), ("full", full_us))
        ]
        self.write(name, "".join(lines))

    def signals(self) -> HostSignals:
        return HostSignals(self.root, 0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_cpu_is_the_share_of_the_quota(machine):
    machine.write(f"{machine.group}/cpu.max", "50000 100000\n")
    signals = machine.signals()
    machine.usage(400_000)

    assert 0.8 == pytest.approx(signals.sample(1 * S).cpu)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000\n", "cpuset.cpus.effective": "0-1,7\n"}, 3),
        ({"cpuset.cpus.effective": "5\n"}, 1),
        ({"cpu.max": "800000 100000\n", "cpuset.cpus.effective": "0-3\n"}, 4),
        ({"cpu.max": "150000 100000\n", "cpuset.cpus.effective": "0-3\n"}, 1.5),
        ({}, os.cpu_count()),
        ({"cpuset.cpus.effective": "\n"}, os.cpu_count()),
        ({"cpuset.cpus.effective": "3-1\n"}, os.cpu_count()),
    ],
)
def test_without_a_tighter_quota_cpu_is_the_share_of_the_cpus(machine, files, cpus):
    for name, text in files.items():
        machine.write(f"{machine.group}/{name}", text)
    signals = machine.signals()
    machine.usage(500_000)

    assert 0.5 / cpus == pytest.approx(signals.sample(1 * S).cpu)


def test_stalls_are_the_share_of_time_with_tasks_waiting(machine):
    signals = machine.signals()
    machine.stalled("cpu", 300_000, 1)
    machine.stalled("memory", 900_000, 20_000)
    machine.stalled("io", 900_000, 100_000)

    found = signals.sample(1 * S)
    assert (0.3, 0.02, 0.1) == pytest.approx((found.psi_cpu, found.psi_memory, found.psi_io))


def test_a_share_takes_two_readings_and_holds_until_the_next(machine):
    signals = machine.signals()
    assert NOTHING == signals.sample(SPAN_NS - 1)
    machine.stalled("io", 125_000)
    machine.usage(1)

    first = signals.sample(SPAN_NS)
    machine.stalled("io", 999_000)

    assert 0.5 == first.psi_io
    assert first == signals.sample(2 * SPAN_NS - 1)
    assert 1.0 == signals.sample(2 * SPAN_NS).psi_io


def test_a_counter_that_goes_back_starts_anew(machine):
    signals = machine.signals()
    machine.usage(900_000)
    machine.stalled("cpu", 900_000)
    signals.sample(1 * S)
    machine.usage(100_000)
    machine.stalled("cpu", 100_000)

    found = signals.sample(2 * S)
    assert (None, None, 0.0) == (found.cpu, found.psi_cpu, found.psi_memory)
    machine.stalled("cpu", 600_000)
    assert 0.5 == signals.sample(3 * S).psi_cpu


def test_shares_are_at_most_one(machine):
    machine.write(f"{machine.group}/cpu.max", "10000 100000\n")
    signals = machine.signals()
    machine.usage(10**18)
    machine.stalled("memory", 10**18)

    assert (1.0, 1.0) == (signals.sample(1 * S).cpu, signals.sample(1 * S).psi_memory)


def test_a_clock_that_stands_still_reads_nothing_anew(machine):
    signals = machine.signals()
    machine.usage(5)

    assert [NOTHING] * 3 == [signals.sample(0) for _ in range(3)]
    assert NOTHING == signals.sample(-5 * S)


def test_without_pressure_files_of_the_cgroup_the_machines_hold(machine):
    for resource in ("cpu", "memory", "io"):
        (machine.root / machine.group / f"{resource}.pressure").unlink()
        machine.stalled(resource, 0, folder="proc/pressure")
    signals = machine.signals()
    machine.stalled("cpu", 250_000, folder="proc/pressure")

    found = signals.sample(1 * S)
    assert (0.25, 0.0, 0.0) == (found.psi_cpu, found.psi_memory, found.psi_io)


def test_counters_of_different_files_are_not_compared(machine):
    machine.stalled("cpu", 10, folder="proc/pressure")
    signals = machine.signals()
    (machine.root / machine.group / "cpu.pressure").unlink()
    assert signals.sample(1 * S).psi_cpu is None

    machine.stalled("cpu", 500_010, folder="proc/pressure")
    assert 0.5 == signals.sample(2 * S).psi_cpu


@pytest.mark.parametrize("own", ["0::/\n", "0::/gone/away (deleted)\n", "0::/../../etc\n", "0::/a\0b\n", ""])
def test_a_container_sees_its_cgroup_as_the_root(tmp_path, own):
    machine = Machine(tmp_path, "sys/fs/cgroup")
    machine.write("proc/self/cgroup", own)
    machine.write("sys/fs/cgroup/cpu.max", "100000 100000\n")
    signals = machine.signals()
    machine.usage(250_000)

    assert 0.25 == signals.sample(1 * S).cpu


def test_a_changed_quota_and_another_cgroup_are_noticed(machine):
    machine.write(f"{machine.group}/cpu.max", "100000 100000\n")
    signals = machine.signals()
    machine.usage(1 * LOOK_UP_NS // 4000)
    assert 0.25 == pytest.approx(signals.sample(LOOK_UP_NS - 1).cpu)

    machine.write(f"{machine.group}/cpu.max", "50000 100000\n")
    machine.usage(2 * LOOK_UP_NS // 4000)
    assert 0.5 == pytest.approx(signals.sample(2 * LOOK_UP_NS).cpu)

    machine.write("proc/self/cgroup", "12:cpu:/x\n0::/other\n")
    machine.group = "sys/fs/cgroup/other"
    machine.usage(10**9)
    assert signals.sample(3 * LOOK_UP_NS).cpu is None


def test_cgroup_v1_has_no_cpu_signal(tmp_path):
    machine = Machine(tmp_path, "sys/fs/cgroup/cpu,cpuacct")
    machine.write("proc/self/cgroup", "5:cpu,cpuacct:/\n1:name=systemd:/\n")
    (tmp_path / "sys/fs/cgroup/cpu,cpuacct/cpu.stat").write_text("nr_periods 0\nnr_throttled 0\n")
    machine.stalled("cpu", 0, folder="proc/pressure")
    signals = machine.signals()
    machine.stalled("cpu", 250_000, folder="proc/pressure")

    assert LocalSignals(psi_cpu=0.25) == signals.sample(1 * S)


def test_a_machine_without_any_of_it_has_no_signals(tmp_path):
    signals = HostSignals(tmp_path / "absent", 0)

    assert NOTHING == signals.sample(1 * S)


GARBAGE = [
    b"",
    b"\n",
    b"\x00\xff\xfe" * 100,
    b"usage_usec\nsome total=\nfull total=\n",
    b"usage_usec -5\nsome avg10=0.00 total=-5\nfull avg10=0.00 total=-5\n",
    b"usage_usec 0x10\nsome avg10=0.00 total=1e5\nfull avg10=0.00 total=1e5\n",
    b"usage_usec " + b"9" * 100 + b"\nsome total=" + b"9" * 100 + b"\nfull total=" + b"9" * 100 + b"\n",
    b"x" * (MAX_FILE_BYTES + 5) + b"\nusage_usec 5\nsome avg10=0 total=5\nfull avg10=0 total=5\n",
]


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_absent(machine, text):
    signals = machine.signals()
    for path in machine.root.rglob("*"):
        if path.is_file():
            path.write_bytes(text)

    assert NOTHING == signals.sample(1 * S)
    assert NOTHING == signals.sample(1 * S + LOOK_UP_NS)


def test_a_number_that_the_bound_cuts_is_not_a_number(machine):
    signals = machine.signals()
    head = b"padding " + b"x" * (MAX_FILE_BYTES - 8 - 1 - len(b"usage_usec 12")) + b"\n"
    machine.write(f"{machine.group}/cpu.stat", head + b"usage_usec 123456\n")

    assert signals.sample(1 * S).cpu is None


def test_what_is_no_file_is_absent_and_nothing_waits_for_it(machine):
    signals = machine.signals()
    for path in [path for path in machine.root.rglob("*") if path.is_file()]:
        path.unlink()
        if path.suffix == ".pressure":
            os.mkfifo(path)
        else:
            path.mkdir()

    assert NOTHING == signals.sample(1 * S)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.binary(max_size=40) | st.from_regex(rb"\A(usage_usec|some|full|0::/|max)[ a-z0-9=.\n]{0,30}\Z"),
        min_size=8,
        max_size=8,
    )
)
def test_any_contents_are_shares_or_absent(machine, contents):
    names = ["cpu.stat", "cpu.max", "cpuset.cpus.effective", "cpu.pressure", "memory.pressure", "io.pressure"]
    signals = machine.signals()
    for name, text in zip(names, contents, strict=False):
        machine.write(f"{machine.group}/{name}", text)
    machine.write("proc/self/cgroup", contents[-1])

    for now_ns in (S, LOOK_UP_NS, 2 * LOOK_UP_NS):
        found = signals.sample(now_ns)
        for share in (found.cpu, found.psi_cpu, found.psi_memory, found.psi_io):
            assert share is None or 0.0 <= share <= 1.0


# Percentiles


def host(tmp_path: Path) -> HostSignals:
    return HostSignals(tmp_path, 0)


def test_a_loop_that_is_always_late_is_as_late_as_that(tmp_path):
    signals = host(tmp_path)
    for tick in range(50):
        signals.loop_ran_late(30 * MS, tick * 100 * MS)

    assert 30.0 == signals.sample(4_900 * MS).loop_lag_ms


@pytest.mark.parametrize("late_ms", [90, 1000, 1900])
def test_one_stall_among_seconds_is_not_a_lag(tmp_path, late_ms):
    signals = host(tmp_path)
    for tick in (*range(20), 40, *range(41, 50)):
        signals.loop_ran_late(late_ms * MS if tick == 40 else 0, tick * 100 * MS)

    assert 0.0 == signals.sample(4_900 * MS).loop_lag_ms


def test_a_loop_that_is_late_once_in_most_seconds_is_as_late_as_the_least_of_those(tmp_path):
    signals = host(tmp_path)
    for tick in range(50):
        late_ms = {5: 250, 15: 150, 35: 180}.get(tick, 1)
        signals.loop_ran_late(late_ms * MS, tick * 100 * MS)

    assert 150.0 == signals.sample(4_900 * MS).loop_lag_ms


def test_a_standstill_of_most_of_the_time_is_a_lag_of_a_second_at_least(tmp_path):
    signals = host(tmp_path)
    signals.loop_ran_late(3_500 * MS, 4_900 * MS)

    lag_ms = signals.sample(4_900 * MS).loop_lag_ms
    assert lag_ms is not None
    assert 1_000 <= lag_ms <= 3_500


@pytest.mark.parametrize("late_s", [6, 60, 10**9])
def test_a_standstill_longer_than_we_look_back_is_seen(tmp_path, late_s):
    signals = host(tmp_path)
    signals.loop_ran_late(late_s * S, late_s * S)

    lag_ms = signals.sample(late_s * S).loop_lag_ms
    assert lag_ms is not None
    assert 1_000 <= lag_ms <= late_s * 1000


def test_a_tick_that_is_early_is_not_late(tmp_path):
    signals = host(tmp_path)
    signals.loop_ran_late(-5 * MS, 0)

    assert 0.0 == signals.sample(0).loop_lag_ms


@pytest.mark.parametrize("milliseconds", [0.002, 0.15, 1.0, 4.999, 5.0, 49.0, 60_000.0])
def test_a_percentile_is_at_most_an_eighth_too_high(tmp_path, milliseconds):
    signals = host(tmp_path)
    for _ in range(200):
        signals.store_called(milliseconds / 1000)

    store_ms = signals.sample(0).store_ms
    assert store_ms is not None
    assert milliseconds <= store_ms * (1 + 1e-9)
    assert store_ms <= milliseconds * 9 / 8


def test_one_slow_call_in_a_hundred_is_not_the_percentile_and_two_are(tmp_path):
    few, more = host(tmp_path), host(tmp_path)
    for call in range(100):
        few.store_called(1.0 if call == 50 else 0.001)
        more.store_called(1.0 if call in {50, 60} else 0.001)

    few_ms, more_ms = few.sample(0).store_ms, more.sample(0).store_ms
    assert few_ms is not None
    assert few_ms < 2
    assert more_ms is not None
    assert more_ms >= 1000


def test_what_is_older_than_the_last_seconds_is_forgotten(tmp_path):
    signals = host(tmp_path)
    signals.store_called(1.0)
    signals.loop_ran_late(S, 0)

    assert signals.sample((SLOTS - 1) * S).store_ms is not None
    assert None is signals.sample(SLOTS * S).store_ms
    assert 0.0 == signals.sample(SLOTS * S).loop_lag_ms


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e-9])
def test_a_call_that_took_no_time_counts_as_zero(tmp_path, seconds):
    signals = host(tmp_path)
    signals.store_called(seconds)

    assert 0.0 == signals.sample(0).store_ms


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_any_duration_is_counted(seconds):
    signals = HostSignals(Path("/absent"), 0)
    for each in seconds:
        signals.store_called(each)

    store_ms = signals.sample(0).store_ms
    assert (store_ms is None) == (not seconds)
    assert store_ms is None or 0.0 <= store_ms <= 2**26 / 1000


# The real machine


def test_this_machine_has_plausible_signals_at_little_cost():
    signals = HostSignals(Path("/"), time.monotonic_ns())
    for _ in range(100):
        signals.store_called(0.001)
    costs = []
    for sample in range(50):
        started = time.thread_time_ns()
        found = signals.sample(time.monotonic_ns() + sample * SPAN_NS)
        costs.append(time.thread_time_ns() - started)

    for share in (found.cpu, found.psi_cpu, found.psi_memory, found.psi_io):
        assert share is None or 0.0 <= share <= 1.0
    has_psi = Path("/proc/pressure/cpu").exists() and os.access("/proc/pressure/cpu", os.R_OK)
    assert has_psi <= (found.psi_cpu is not None)
    # Files are read in each. 0.2 ms is the promise; the median, since a shared machine has its moments.
    assert sorted(costs)[25] < 200_000
