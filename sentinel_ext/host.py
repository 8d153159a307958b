"""What an instance sees of the machine it runs on: event loop, CPU quota, stalls (PSI), calls to the store.

A signal that cannot be read, or makes no sense, is absent; nothing here raises because of a file. CPU usage
and quota are those of this process's own cgroup (v2). Without v2 there is no CPU signal: the load of the
machine would blame us for our neighbours' work, and what hurts shows in the event loop's lag.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Final

from sentinel_ext.core.signals import LocalSignals

# How often the owner of the event loop calls `loop_ran_late`.
TICK_NS: Final = 100_000_000
# Percentiles are taken over this many slots of a second, the current one included.
SLOTS: Final = 5
# Files are read this seldom: over less, a cgroup's quota (100 ms periods) makes its usage jump.
SPAN_NS: Final = 250_000_000
# Quotas and the cgroup itself can change while we run; they are looked up again this often.
LOOK_UP_NS: Final = 5_000_000_000
# None of the files is longer; what follows in one that is, is not looked at.
MAX_FILE_BYTES: Final = 4096

_SLOT_NS: Final = 1_000_000_000
_MAX_MISSED: Final = SLOTS * _SLOT_NS // TICK_NS
_PERCENT: Final = 99
# Eight steps for each doubling from 1 µs to 67 s: a percentile is at most an eighth too high.
_STEPS: Final = 8
_DOUBLINGS: Final = 26
_BUCKETS: Final = _DOUBLINGS * _STEPS
_LONGEST_US: Final = 2.0**_DOUBLINGS - 1
_NS_PER_US: Final = 1000

_CGROUP_ROOT: Final = "sys/fs/cgroup"
# PSI: file, and which of its two lines. `some` of the CPU, since a cgroup that waits for it is never `full`.
_PRESSURES: Final = (("cpu", "some"), ("memory", "full"), ("io", "full"))
_TOTAL: Final = {
    kind: re.compile(rb"^%s .*\btotal=([0-9]{1,19})$" % kind.encode(), re.MULTILINE)
    for kind in ("some", "full")
}
_USAGE: Final = re.compile(rb"^usage_usec ([0-9]{1,19})$", re.MULTILINE)
_QUOTA: Final = re.compile(rb"([0-9]{1,15}) ([1-9][0-9]{0,14})\s*")
_OWN_CGROUP: Final = re.compile(rb"^0::/(.*)$", re.MULTILINE)
_CPU_RANGE: Final = re.compile(rb"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Recent:
    """Durations of the last seconds, in buckets: 0.4 µs to add one, whatever their number."""

    __slots__ = ("_counts", "_current", "_slot", "_slots")

    def __init__(self, now_ns: int) -> None:
        """Start with none."""
        self._slots = [[0] * _BUCKETS for _ in range(SLOTS)]
        self._slot = now_ns // _SLOT_NS
        self._current = self._slots[-1]
        self._counts = [0] * _BUCKETS

    def add(self, length_us: float) -> None:
        """Count a duration in the current slot."""
        bucket = 0
        if length_us >= 1:
            mantissa, exponent = math.frexp(min(length_us, _LONGEST_US))
            bucket = (exponent - 1) * _STEPS + int((2 * mantissa - 1) * _STEPS)
        self._current[bucket] += 1
        self._counts[bucket] += 1

    def advance(self, now_ns: int) -> None:
        """Forget what is older than the slots reach back."""
        slot = now_ns // _SLOT_NS
        for _ in range(min(slot - self._slot, SLOTS)):
            oldest = self._slots.pop(0)
            self._counts = [count - old for count, old in zip(self._counts, oldest, strict=True)]
            self._current = [0] * _BUCKETS
            self._slots.append(self._current)
        self._slot = max(slot, self._slot)

    def percentile_ms(self) -> float | None:
        """Return the 99th percentile, or None without any. A single outlier among few does not make it."""
        left = max(1, sum(self._counts) * _PERCENT // 100)
        for bucket, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return _upper_us(bucket) / 1000
        return None


def _upper_us(bucket: int) -> float:
    """Return where a bucket ends; the first one holds everything below, too, and counts as zero."""
    doublings, step = divmod(bucket, _STEPS)
    return float(2**doublings * (1 + (step + 1) / _STEPS)) if bucket else 0.0


class LoopLag:
    """How late the event loop runs: the worst of each of the last seconds, and of those the median.

    A stall is over when it is seen: were it to count for seconds, one long pause (a start, a collection, a
    throttled container) would shed for seconds for nothing. A loop that cannot keep up is late again and
    again, and one that stands still for most of the last seconds is late in most of them.
    """

    __slots__ = ("_is_known", "_slot", "_worst_ns")

    def __init__(self, now_ns: int) -> None:
        """Start with nothing known."""
        self._slot = now_ns // _SLOT_NS
        self._worst_ns = [0] * SLOTS
        self._is_known = False

    def late(self, late_ns: int, now_ns: int) -> None:
        """Take how much later than due a tick ran; those that were due meanwhile were late, too."""
        self.advance(now_ns)
        self._is_known = True
        for missed in range(min(late_ns // TICK_NS, _MAX_MISSED) + 1):
            self._note(late_ns - missed * TICK_NS, now_ns - late_ns + missed * TICK_NS)
        if late_ns // TICK_NS > _MAX_MISSED:  # longer than we look back: late all the time
            self._worst_ns = [max(worst, late_ns - _MAX_MISSED * TICK_NS) for worst in self._worst_ns]

    def _note(self, late_ns: int, due_ns: int) -> None:
        back = self._slot - due_ns // _SLOT_NS
        if 0 <= back < SLOTS:
            self._worst_ns[-1 - back] = max(self._worst_ns[-1 - back], late_ns)

    def advance(self, now_ns: int) -> None:
        """Forget what is older than the slots reach back."""
        passed = min(now_ns // _SLOT_NS - self._slot, SLOTS)
        if passed > 0:
            self._worst_ns = self._worst_ns[passed:] + [0] * passed
            self._slot = now_ns // _SLOT_NS

    def median_ms(self) -> float | None:
        """Return the median over the slots; None before anything was known."""
        return sorted(self._worst_ns)[SLOTS // 2] / 1_000_000 if self._is_known else None


class Meter:
    """A counter of a file, in µs, as a share of the time that passed."""

    __slots__ = ("_count_us", "_now_ns", "_path", "share")

    def __init__(self) -> None:
        """Start without a value: a share takes two readings."""
        self._path, self._count_us, self._now_ns = "", 0, 0
        self.share: float | None = None

    def read(self, path: str, count_us: int | None, now_ns: int) -> None:
        """Take a reading. One from another file, or a counter that went back, starts anew."""
        passed_us = (now_ns - self._now_ns) // _NS_PER_US
        grown_us = (count_us or 0) - self._count_us
        if count_us is None or path != self._path or grown_us < 0 or passed_us <= 0:
            self.share = None
        else:
            self.share = grown_us / passed_us
        self._path, self._count_us, self._now_ns = path if count_us is not None else "", count_us or 0, now_ns


class HostSignals:
    """Samples the machine. Called on the event loop: a sample is bounded work, well below 0.2 ms."""

    def __init__(self, root: Path, now_ns: int) -> None:
        """Read below `root`, which is `/` on a real machine."""
        self._root = os.fspath(root).rstrip("/")
        self._loop_lag, self._store = LoopLag(now_ns), Recent(now_ns)
        self._usage = Meter()
        self._stalls = tuple(Meter() for _ in _PRESSURES)
        self._cgroup = ""
        self._cpus = 1.0
        self._read_ns = self._looked_up_ns = now_ns
        self._look_up()
        self._read_files(now_ns)

    def loop_ran_late(self, late_ns: int, now_ns: int) -> None:
        """Take how much later than due a tick of the event loop ran."""
        self._loop_lag.late(late_ns, now_ns)

    def store_called(self, seconds: float) -> None:
        """Take how long a call to the store took."""
        self._store.add(seconds * 1e6)

    def store_ms(self) -> float | None:
        """Return the 99th percentile of calls to the store of the last seconds; None without any."""
        return self._store.percentile_ms()

    def sample(self, now_ns: int) -> LocalSignals:
        """Return the signals; files are read again if it is time."""
        self._loop_lag.advance(now_ns)
        self._store.advance(now_ns)
        if now_ns - self._looked_up_ns >= LOOK_UP_NS:
            self._looked_up_ns = now_ns
            self._look_up()
        if now_ns - self._read_ns >= SPAN_NS:
            self._read_ns = now_ns
            self._read_files(now_ns)
        usage = self._usage.share
        stalls = [None if meter.share is None else min(1.0, meter.share) for meter in self._stalls]
        return LocalSignals(
            loop_lag_ms=self._loop_lag.median_ms(),
            cpu=None if usage is None else min(1.0, usage / self._cpus),
            psi_cpu=stalls[0],
            psi_memory=stalls[1],
            psi_io=stalls[2],
            store_ms=self._store.percentile_ms(),
        )

    def _look_up(self) -> None:
        """Find our cgroup, and how many CPUs it may use."""
        mount = f"{self._root}/{_CGROUP_ROOT}"
        own = _OWN_CGROUP.search(self._read("proc/self/cgroup"))
        path = os.fsdecode(own[1]).rstrip("/") if own else ""
        # Inside a container the path may be the host's name for what is mounted here as the root.
        found = f"{mount}/{path}" if path and ".." not in path.split("/") else mount
        self._cgroup = found if Path(found).is_dir() else mount
        quota = _QUOTA.fullmatch(_read(f"{self._cgroup}/cpu.max"))
        cpus = float(_count_cpus(_read(f"{self._cgroup}/cpuset.cpus.effective")) or os.cpu_count() or 1)
        self._cpus = min(cpus, max(int(quota[1]) / int(quota[2]), 0.001)) if quota else cpus

    def _read_files(self, now_ns: int) -> None:
        path = f"{self._cgroup}/cpu.stat"
        self._usage.read(path, _number(_USAGE, _read(path)), now_ns)
        for meter, (resource, kind) in zip(self._stalls, _PRESSURES, strict=True):
            path = f"{self._cgroup}/{resource}.pressure"
            total_us = _number(_TOTAL[kind], _read(path))
            if total_us is None:
                path = f"{self._root}/proc/pressure/{resource}"
                total_us = _number(_TOTAL[kind], _read(path))
            meter.read(path, total_us, now_ns)

    def _read(self, path: str) -> bytes:
        return _read(f"{self._root}/{path}")


def _read(path: str) -> bytes:
    """Return how a file begins, whole lines only; nothing if it cannot be read. Waits for nothing."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return b""
    try:
        text = os.read(file, MAX_FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(file)
    return text if len(text) < MAX_FILE_BYTES else text[: text.rfind(b"\n") + 1]


def _number(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _count_cpus(text: bytes) -> int:
    """Count the CPUs of a list such as `0-3,6`; 0 if it is none."""
    count = 0
    for part in text.strip().split(b","):
        found = _CPU_RANGE.fullmatch(part)
        if found is None:
            return 0
        count += max(0, int(found[2] or found[1]) - int(found[1]) + 1)
    return count
