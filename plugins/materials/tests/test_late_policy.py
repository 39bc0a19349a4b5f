"""What being late takes, against a slow and plain reference; and days that are as long as clocks make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lms_materials.late_policy import LatePolicy, days_later, is_late, penalty

from lms_core.testing import Lms

# Clocks change by one hour, by half an hour, at midnight, not at all; and a whole day was left out.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "UTC",
)
POLICIES = st.builds(
    LatePolicy,
    grace_minutes=st.integers(0, 3000),
    per=st.sampled_from(["hour", "day"]),
    deduct_percent=st.integers(0, 100),
    cap_percent=st.integers(0, 100),
    floor_percent=st.integers(0, 100),
)
MOMENTS = st.datetimes(datetime(2011, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
POINTS = st.decimals(0, 1000, places=2)


def slow_days_later(moment: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The last minute around that time of day at which a clock there shows it; the next that there is, if none does."""
    wanted = moment.astimezone(zone).replace(tzinfo=None) + timedelta(days=days)
    around = wanted.replace(tzinfo=UTC)
    minutes = [around + timedelta(minutes=number) for number in range(-27 * 60, 27 * 60 + 1)]
    shown = [minute for minute in minutes if minute.astimezone(zone).replace(tzinfo=None) == wanted]
    if shown:
        return shown[-1]
    # The clock jumps over it: as long after the jump as it would have been.
    before = max(minute for minute in minutes if minute.astimezone(zone).replace(tzinfo=None) < wanted)
    return before + (wanted - before.astimezone(zone).replace(tzinfo=None))


def slow_units(policy: LatePolicy, due_at: datetime, submitted_at: datetime, zone: ZoneInfo) -> int:
    """Counted one by one."""
    units = 0
    while True:
        units += 1
        end = due_at + timedelta(hours=units) if policy.per == "hour" else slow_days_later(due_at, units, zone)
        if submitted_at <= end:
            return units


def slow_final(
    policy: LatePolicy, points: Decimal, possible: Decimal, due_at: datetime, submitted_at: datetime, zone: ZoneInfo
) -> Decimal:
    """As the words of the policy say it, one after the other."""
    if submitted_at <= due_at + timedelta(minutes=policy.grace_minutes):
        return points
    taken = Decimal(0)
    for _ in range(slow_units(policy, due_at, submitted_at, zone)):
        taken = min(taken + policy.deduct_percent, Decimal(policy.cap_percent))
    left = points - possible * taken / 100
    least = possible * policy.floor_percent / 100
    if left < least:
        left = min(least, points)
    if left < 0:
        left = Decimal(0)
    return left.quantize(Decimal("0.01"), ROUND_HALF_UP)


@settings(max_examples=150, deadline=None)
@given(
    policy=POLICIES,
    points=POINTS,
    possible=POINTS,
    due_at=MOMENTS.map(lambda moment: moment.replace(second=0, microsecond=0)),
    late_by=st.one_of(
        st.timedeltas(timedelta(hours=-3), timedelta(days=5)),
        st.builds(timedelta, hours=st.integers(0, 72)),
        st.builds(timedelta, days=st.integers(0, 4), seconds=st.integers(-1, 1)),
    ),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_against_the_reference(
    policy: LatePolicy, points: Decimal, possible: Decimal, due_at: datetime, late_by: timedelta, zone: ZoneInfo
) -> None:
    submitted_at = due_at + late_by
    taken = penalty(policy, points, possible, due_at, submitted_at, zone)
    final = points if taken is None else taken.final_points
    assert final == slow_final(policy, points, possible, due_at, submitted_at, zone)
    assert 0 <= final <= points
    if taken is not None:
        assert taken.points == points - final
        assert taken.units == slow_units(policy, due_at, submitted_at, zone)


@pytest.mark.parametrize(
    ("zone", "due", "days", "expected"),
    [
        # The same time of day, although this day has 23, 25 or 24 hours and a half.
        ("Europe/Berlin", "2026-03-28T22:59:00Z", 1, "2026-03-29T21:59:00Z"),
        ("Europe/Berlin", "2026-10-24T21:59:00Z", 1, "2026-10-25T22:59:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T10:00:00Z", 1, "2026-04-05T10:30:00Z"),
        # 02:30 is left out that night, and comes twice in autumn: the later one.
        ("Europe/Berlin", "2026-03-28T01:30:00Z", 1, "2026-03-29T01:30:00Z"),
        ("Europe/Berlin", "2026-10-24T00:30:00Z", 1, "2026-10-25T01:30:00Z"),
        ("Asia/Kathmandu", "2026-03-28T12:00:00Z", 1, "2026-03-29T12:00:00Z"),
    ],
)
async def test_a_day_later_is_the_same_time_of_day(lms: Lms, zone: str, due: str, days: int, expected: str) -> None:
    moment = datetime.fromisoformat(due)
    assert days_later(moment, days, ZoneInfo(zone)) == datetime.fromisoformat(expected)
    rows = await lms.sql(
        "SELECT (CAST(:due AS timestamptz) AT TIME ZONE :zone + make_interval(days => :days)) AT TIME ZONE :zone AS at",
        due=moment, zone=zone, days=days,
    )  # fmt: skip
    assert rows[0]["at"] == datetime.fromisoformat(expected)


def test_grace_is_no_part_of_the_time_that_counts() -> None:
    policy, due = LatePolicy(grace_minutes=30, per="hour", deduct_percent=10), datetime(2026, 5, 1, 12, tzinfo=UTC)
    at_its_end, after = due + timedelta(minutes=30), due + timedelta(minutes=30, seconds=1)
    assert not is_late(policy, due, at_its_end)
    assert penalty(policy, Decimal(10), Decimal(10), due, at_its_end, ZoneInfo("UTC")) is None
    taken = penalty(policy, Decimal(10), Decimal(10), due, after, ZoneInfo("UTC"))
    assert taken is not None
    assert (taken.units, taken.final_points) == (1, Decimal(9))
    assert taken.explanation == "1 hour late at 10 % of 10 points each, 1.00 off"
