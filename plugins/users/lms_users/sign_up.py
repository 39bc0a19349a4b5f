"""Users who come by a way of signing in: made without an actor, and only as students and teachers."""

from typing import Literal
from uuid import UUID

from lms_institutions.contracts import INSTITUTION, InstitutionTree

from lms_core.sdk import Access, Context, Forbidden, HeldRole, UnitOfWork
from lms_users import grants
from lms_users.contracts import SignUp, UserCreated
from lms_users.emails import email_key, valid_email
from lms_users.models import User
from lms_users.schemas import RoleGrant


class SignUps(SignUp):
    """For other plugins."""

    async def create(
        self, uow: UnitOfWork, email: str, full_name: str, role: Literal["student", "teacher"], institution_id: UUID
    ) -> UUID:
        """Nobody is asked whether the role may be given: hence the check of which."""
        if role not in ("student", "teacher"):
            raise ValueError(f"Nobody signs up as {role}.")
        user = User(email=valid_email(email), email_key=email_key(email), full_name=full_name)
        await uow.add(user)
        await grants.add(uow, user.id, RoleGrant(role=role, institution_id=institution_id), grants.Bundle(role))
        uow.emit(UserCreated(user_id=user.id))
        return user.id

    async def belongs_to(self, context: Context, user_id: UUID, institution_id: UUID) -> bool:
        """Asked as if a principal of the institution wanted to change the user's address."""
        async with context.unit_of_work() as uow:
            below = uow.use(InstitutionTree).and_below(institution_id)
            places = list((await uow.session.execute(below)).scalars())
        roles = tuple(HeldRole("users.grants", INSTITUTION, place, "principal", None) for place in places)
        principal = Access(UUID(int=0), roles, context.platform.rules)
        async with context.unit_of_work(principal) as uow:
            try:
                await grants.refuse_unless_all_is_below(uow, user_id)
            except Forbidden:
                return False
        return True
