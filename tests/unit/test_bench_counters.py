"""The benchmark's counters: what the kernel and ip write is read right, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sis.errors import UsageFault
from tests.bench import counters, sizes
from tests.bench.methods import METHODS, chosen

_LINK = '[{"ifname":"wire0","stats64":{"rx":{"bytes":1930123456,"packets":9},"tx":{"bytes":5432,"packets":7}}}]'
_OLD_LINK = '[{"ifname":"wire0","stats":{"rx":{"bytes":12},"tx":{"bytes":34}}}]'


@pytest.mark.parametrize(("text", "received", "sent"), [(_LINK, 1930123456, 5432), (_OLD_LINK, 12, 34)])
def test_traffic_of_an_interface(text: str, received: int, sent: int) -> None:
    assert counters.parse_traffic(text) == counters.Traffic(received, sent)


@pytest.mark.parametrize("text", ["", "[]", "[{}]", "[{},{}]", '[{"stats64":{"rx":{}}}]', "Device not found"])
def test_what_is_no_interface_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="not the counters of one interface"):
        counters.parse_traffic(text)


def test_processor_time_of_both_kinds_of_groups() -> None:
    assert counters.parse_usage("2590000000\n", "v1") == 2.59
    assert counters.parse_usage("usage_usec 193\nuser_usec 100\nsystem_usec 93\n", "v2") == 193e-6
    with pytest.raises(ValueError, match="usage_usec"):
        counters.parse_usage("nr_periods 0\n", "v2")


def test_processor_time_of_a_process_with_an_odd_name() -> None:
    line = "42 (a) b ( c)) S 1 42 42 0 -1 4194304 100 200 0 0 7 5 30 20 20 0 1 0 12345 1000 50 18446744073709551615"
    assert counters.parse_ticks(line) == 7 + 5 + 30 + 20


def test_busy_time_leaves_out_idle_waiting_and_stolen() -> None:
    assert counters.parse_busy("cpu  100 2 30 9999 888 4 5 777 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n") == 141
    assert counters.busy_s() > 0


def test_peak_memory_of_a_process() -> None:
    assert (
        counters.parse_peak("Name:\trsync\nVmPeak:\t  99999 kB\nVmHWM:\t   25600 kB\nVmRSS:\t 100 kB\n") == 25600 * 1024
    )
    assert counters.parse_peak("Name:\tkthreadd\nState:\tS (sleeping)\n") == 0
    assert counters.parse_peak(Path("/proc/self/status").read_text()) > 1 << 20


def test_sizes_and_methods_by_name() -> None:
    assert sizes.named("small").kernel is None
    with pytest.raises(UsageFault, match="BENCH=huge: no such size"):
        sizes.named("huge")
    assert chosen([]) == METHODS
    assert [method.name for method in chosen(["ostree", "ours"])] == ["ours", "ostree"]
    with pytest.raises(UsageFault, match="no such method: rsnyc"):
        chosen(["rsnyc"])
