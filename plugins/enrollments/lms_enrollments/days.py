"""When somebody takes part: from the first day of an enrollment's own to the last, where its institution is."""

from typing import Any

from lms_courses.contracts import timezone_in_course
from sqlalchemy import Date, DateTime, and_, case, cast, func, literal_column, or_
from sqlmodel import col

from lms_enrollments.models import Enrollment

# Only rows with a day of their own pay for the walk up the institutions.
TIMEZONE: Any = timezone_in_course(col(Enrollment.course_id))
TODAY = cast(func.timezone(TIMEZONE, func.now()), Date)
NOT_OVER = or_(col(Enrollment.ends_on).is_(None), col(Enrollment.ends_on) >= TODAY)
IS_ON = or_(
    and_(col(Enrollment.starts_on).is_(None), col(Enrollment.ends_on).is_(None)),
    # The walk stands here once, for both days: it is planned with whatever asks for roles.
    func.daterange(col(Enrollment.starts_on), col(Enrollment.ends_on), literal_column("'[]'")).op("@>")(TODAY),
)
"""A condition: today is not before the first day, nor after the last."""

LAST_MOMENT = case(
    (col(Enrollment.ends_on).is_not(None), func.timezone(TIMEZONE, cast(col(Enrollment.ends_on) + 1, DateTime())))
)
"""The end of the last day, as an instant; NULL where there is none."""
