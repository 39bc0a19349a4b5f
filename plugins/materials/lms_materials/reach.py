"""In which courses somebody may find something at all, so that search need not look through those of others."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lms_courses.contracts import COURSE, COURSES
from lms_institutions.contracts import INSTITUTION
from sqlalchemy import ARRAY, Select, Uuid, any_, bindparam, or_, select

from lms_core.sdk import UnitOfWork
from lms_materials.contracts import MATERIAL
from lms_materials.models import Material


@dataclass(frozen=True)
class Reach:
    """All courses, or those with these ids and those of these institutions.

    What of a course somebody may read is for the read rules to say; nothing outside of these is theirs.
    """

    course_ids: tuple[UUID, ...] = ()
    institution_ids: tuple[UUID, ...] = ()
    is_everything: bool = False

    @property
    def may_be_large(self) -> bool:
        """Whether there may be any number of courses."""
        return self.is_everything or bool(self.institution_ids)

    @property
    def shape(self) -> Hashable:
        """What makes the SQL differ."""
        return self.is_everything, self.may_be_large

    @property
    def values(self) -> dict[str, Any]:
        """What the SQL is asked with."""
        if self.is_everything:
            return {}
        return {"reach_courses": list(self.course_ids), "reach_institutions": list(self.institution_ids)}

    def courses(self) -> Select[tuple[UUID]]:
        """The ids of the courses."""
        found = select(COURSES.c.id)
        if self.is_everything:
            return found
        by_id = COURSES.c.id == any_(bindparam("reach_courses", type_=ARRAY(Uuid())))
        by_institution = COURSES.c.institution_id == any_(bindparam("reach_institutions", type_=ARRAY(Uuid())))
        return found.where(or_(by_id, by_institution))


def of(uow: UnitOfWork, course_id: UUID | None) -> Reach:
    """A course, or wherever the caller holds a role that lets them read something."""
    if course_id is not None:
        return Reach((course_id,))
    ids: dict[str, list[UUID]] = {COURSE: [], INSTITUTION: []}
    for rule in uow.context.platform.rules.reading(Material):
        scope = None if rule.permission is None else uow.access.scope(rule.permission, MATERIAL)
        if scope is None or scope.everywhere or scope.ids.keys() - ids.keys():
            # A rule that reads by something else than courses and institutions is asked of every text.
            return Reach(is_everything=True)
        for kind, held in scope.ids.items():
            ids[kind] += held
    return Reach(tuple(dict.fromkeys(ids[COURSE])), tuple(dict.fromkeys(ids[INSTITUTION])))
