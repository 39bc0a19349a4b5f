"""What being late costs: the one place where it is computed and explained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, StrictInt

from lms_core.sdk import Field, Input

CENT = Decimal("0.01")
HUNDRED = Decimal(100)
Unit = Literal["hour", "day"]
Percent = Annotated[StrictInt, Field(ge=0, le=100)]


class LatePolicy(Input):
    """How much of an assignment's points each begun hour or day after its due date takes."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"grace_minutes": 15, "per": "day", "deduct_percent": 10, "floor_percent": 40}}
    )

    grace_minutes: StrictInt = Field(default=0, ge=0, le=60 * 24 * 30, description="So long nobody is late")
    per: Unit = Field(default="day", description="A day ends at the same time of day, where the institution is")
    deduct_percent: Percent = Field(default=0, description="Of the assignment's points, for each that has begun")
    cap_percent: Percent = Field(default=100, description="No more than this is taken in all")
    floor_percent: Percent = Field(default=0, description="What somebody earned is not brought below this")


@dataclass(frozen=True)
class Penalty:
    """How late something is, and what that takes of it."""

    unit: Unit
    units: int
    points: Decimal
    final_points: Decimal
    explanation: str


def days_later(moment: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The same time of day so many days later, in UTC.

    Where the clocks are changed then, it is the later of the two moments that could be meant: nobody loses an hour.
    PostgreSQL's `AT TIME ZONE` decides alike.
    """
    local = moment.astimezone(zone).replace(tzinfo=None) + timedelta(days=days)
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def is_late(policy: LatePolicy, due_at: datetime | None, submitted_at: datetime) -> bool:
    """Whether it came after the due date and the grace."""
    return due_at is not None and submitted_at - due_at > timedelta(minutes=policy.grace_minutes)


def units_late(unit: Unit, due_at: datetime, submitted_at: datetime, zone: ZoneInfo) -> int:
    """How many hours or days after the due date had begun; grace is no part of it."""
    if unit == "hour":
        return -((due_at - submitted_at) // timedelta(hours=1))
    # Two days off at most, whatever the clocks did; the day before the first guess may already reach.
    days = max((submitted_at.astimezone(zone).date() - due_at.astimezone(zone).date()).days - 1, 1)
    while days_later(due_at, days, zone) < submitted_at:
        days += 1
    return days


def penalty(
    policy: LatePolicy,
    points: Decimal,
    possible: Decimal,
    due_at: datetime | None,
    submitted_at: datetime,
    zone: ZoneInfo,
) -> Penalty | None:
    """What is taken of `points` out of `possible` ones; None when nothing is to be said."""
    if due_at is None or policy.deduct_percent == 0 or not is_late(policy, due_at, submitted_at):
        return None
    units = units_late(policy.per, due_at, submitted_at, zone)
    percent = min(units * policy.deduct_percent, policy.cap_percent)
    floor = min(points, possible * policy.floor_percent / HUNDRED)
    final = max(points - possible * percent / HUNDRED, floor, Decimal(0)).quantize(CENT, ROUND_HALF_UP)
    taken = points - final
    said = [
        f"{units} {policy.per}{'' if units == 1 else 's'} late at {policy.deduct_percent} % of {possible:f} points each"
    ]
    if percent < units * policy.deduct_percent:
        said.append(f"{policy.cap_percent} % at most")
    if final > points - possible * percent / HUNDRED and policy.floor_percent:
        said.append(f"{policy.floor_percent} % are kept")
    said.append(f"{taken:f} off")
    return Penalty(policy.per, units, taken, final, ", ".join(said))
