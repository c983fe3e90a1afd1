"""Maintenance windows: read, open or not by the wall clock of a zone, and their next opening."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configurator import windows
from configurator.errors import ConfiguratorError
from configurator.facts import Facts
from configurator.footprint import Footprint
from configurator.record import Record
from configurator.renderers import Context
from configurator.renderers.resync import resync

SUNDAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "zone", "expected"),
    [
        ("Sun 01:00-05:00", SUNDAY + timedelta(hours=1), "UTC", True),
        ("Sun 01:00-05:00", SUNDAY + timedelta(hours=5), "UTC", False),
        ("Sun 01:00-05:00", SUNDAY + timedelta(days=1, hours=2), "UTC", False),
        ("Sun 01:00-05:00", SUNDAY, "Europe/Paris", True),
        ("Sun 01:00-05:00", SUNDAY + timedelta(hours=4), "Europe/Paris", False),
        ("Sat 22:00-04:00", SUNDAY + timedelta(hours=3), "UTC", True),
        ("Sat 22:00-04:00", SUNDAY + timedelta(hours=22), "UTC", False),
        ("Mon-Fri 00:00-24:00", SUNDAY + timedelta(hours=12), "UTC", False),
        ("Fri-Mon 00:00-24:00", SUNDAY + timedelta(hours=12), "UTC", True),
        ("sat,sunday 11:30-12:30", SUNDAY + timedelta(hours=12), "UTC", True),
        ("daily 11:30-12:30", SUNDAY + timedelta(hours=12), "UTC", True),
        ("11:30-12:30", SUNDAY + timedelta(hours=13), "UTC", False),
        ("Sun 01:00-05:00", SUNDAY + timedelta(hours=1), "Nowhere/Atall", True),
    ],
)
def test_open_by_the_wall_clock(text: str, moment: datetime, zone: str, expected: bool) -> None:
    assert windows.is_open([text], moment, zone) is expected


def test_without_windows_it_is_always_open() -> None:
    assert windows.is_open([], SUNDAY, "UTC")


def test_a_window_in_the_hour_skipped_in_spring_opens_a_week_later() -> None:
    before = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)
    opening = windows.next_opening(["Sun 02:00-03:00"], before, "Europe/Paris")
    assert opening == datetime(2026, 4, 5, 0, 0, tzinfo=UTC)


def test_a_window_in_the_hour_repeated_in_autumn_is_open_twice() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert windows.is_open(["Sun 02:00-03:00"], first, "Europe/Paris")
    assert windows.is_open(["Sun 02:00-03:00"], first + timedelta(hours=1), "Europe/Paris")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("always", "not a maintenance window: 'always'; write it like 'Sun 01:00-05:00'"),
        ("Sun 25:00-26:00", "no such time as 25:00"),
        ("Sun 01:60-02:00", "no such time as 01:60"),
        ("Son 01:00-02:00", "no such day as 'Son'; days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        ("Sun 01:00-01:00", "never open; for a whole day write 00:00-24:00"),
    ],
)
def test_faults_say_what_is_wrong(text: str, told: str) -> None:
    with pytest.raises(ConfiguratorError, match=told):
        windows.parse(text)


def test_as_systemd_writes_openings() -> None:
    assert windows.on_calendar(["Sun 01:00-05:00", "22:30-01:00"]) == (
        ("Sun *-*-* 01:00:00", 240),
        ("*-*-* 22:30:00", 150),
    )


texts = st.builds(
    lambda days, start, length: (
        f"{','.join(sorted(days))} {start // 60:02}:{start % 60:02}-"
        f"{(start + length) % 1440 // 60:02}:{(start + length) % 60:02}"
    ),
    st.sets(st.sampled_from(windows.DAYS), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)).map(lambda each: each.replace(tzinfo=UTC))  # noqa: DTZ001
zones = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])


@given(st.lists(texts, min_size=1, max_size=3), moments, zones)
def test_the_next_opening_is_open_and_nothing_before_it_is(given: list[str], moment: datetime, zone: str) -> None:
    opening = windows.next_opening(given, moment, zone)
    assert moment <= opening <= moment + timedelta(days=16)
    assert windows.is_open(given, opening, zone)
    # Where clocks jump a window may open in the middle: only elsewhere is nothing open before.
    if opening > moment and zone in ("UTC", "Asia/Kolkata"):
        for part in range(1, 40):
            between = moment + (opening - moment) * part / 40
            assert not windows.is_open(given, between, zone), between


def test_the_timer_opens_with_the_windows_and_spreads_within_them() -> None:
    record = Record(name="n1", id=1, windows=("Sun 01:00-05:00", "22:30-23:00"))
    (file,) = resync(Context(record, Facts(), Footprint(init="systemd")))
    assert file.path == "/etc/systemd/system/sis-resync.timer.d/sis.conf"
    lines = file.content.decode().splitlines()
    assert lines[lines.index("[Timer]") :] == [
        "[Timer]",
        "OnCalendar=",
        "OnCalendar=Sun *-*-* 01:00:00",
        "OnCalendar=*-*-* 22:30:00",
        "RandomizedDelaySec=15min",
        "Persistent=false",
    ]
