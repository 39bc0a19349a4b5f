"""The rules for users."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import InstitutionTree
from sqlalchemy import ColumnElement, String, Uuid, bindparam, cast, func
from sqlalchemy import update as update_rows
from sqlmodel import col, or_, select

from lms_core.sdk import (
    SUPER_ADMIN,
    Forbidden,
    Invalid,
    JsonBytes,
    Listing,
    NotFound,
    Point,
    Read,
    Unauthenticated,
    Unavailable,
    UnitOfWork,
    alive,
    among,
    among_texts,
    answer_import,
    delete,
    given_ids,
    new_import,
)
from lms_users import grants, guardians
from lms_users.contracts import Passwords, Person, UserCreated, UserDirectory, UserDisabled, UserEnabled, UserInvited
from lms_users.emails import email_key
from lms_users.importing import UserImporter
from lms_users.models import Grant, User
from lms_users.schemas import RoleGrant, UserCreate, UserImport, UserRead, UserUpdate

USERS = Listing(
    User,
    UserRead,
    filters={
        "email_key": col(User.email_key) == bindparam("email_key"),
        "institution_id": col(User.id).in_(
            select(Grant.user_id).where(Grant.institution_id == bindparam("institution_id"), ~col(Grant.is_deleted))
        ),
    },
    # An institution may have one user in three, or one in a million.
    plan_once=False,
)
USER_POINT = Point(User, UserRead)
ME = Read(
    select(*(col(getattr(User, name)) for name in UserRead.model_fields)).where(
        col(User.id) == bindparam("user_id", type_=Uuid())
    ),
    plan_once=True,
)
MAY_SIGN_IN = Read(
    select(User.id).where(
        User.id == bindparam("user_id", type_=Uuid()), col(User.is_active).is_(True), ~col(User.is_deleted)
    )
)


GIVEN = given_ids("user_ids")
# Their rows FOR SHARE in the order of their ids.
LIVING = (
    select(User.id, User.is_active)
    .join(GIVEN, GIVEN.c.id == col(User.id))
    .where(~col(User.is_deleted))
    .order_by(col(User.id))
    .with_for_update(read=True, of=User)
)
HELD = Read(LIVING)


async def create(uow: UnitOfWork, data: UserCreate) -> Response:
    """Add a user with their first roles and, where the auth plugin is on, a password."""
    if not data.roles and not data.guardian_of and not uow.access.everywhere:
        raise Invalid(
            "roles_required",
            "Give the user a role at one of your institutions, or a student to look after; you could not see them.",
            ("body", "roles"),
        )
    passwords = uow.use_if_enabled(Passwords)
    if (data.password is not None or data.invite) and passwords is None:
        raise Unavailable(
            "No enabled plugin keeps passwords; leave the password, or the invitation, out.", "passwords_unavailable"
        )
    for role in data.roles:
        # Before the password is looked at: what an institution asks of passwords is not for strangers.
        await grants.what_may_be_given(uow, role)
    prepared = None
    if passwords and data.password:
        places = [role.institution_id for role in data.roles if role.institution_id is not None]
        prepared = await passwords.prepare(uow, data.email, data.password, places)
    user = User(email=data.email, email_key=email_key(data.email), full_name=data.full_name)
    await uow.add(user)
    for role in data.roles:
        await grants.grant(uow, user.id, role)
    for student_id in data.guardian_of:
        await guardians.link(uow, student_id, user.id)
    if passwords and prepared:
        await passwords.store(uow, user.id, prepared)
    uow.emit(UserCreated(user_id=user.id))
    if data.invite:
        uow.emit(UserInvited(user_id=user.id))
    return await USER_POINT.after_write(uow, user.id, 201)


async def import_users(uow: UnitOfWork, data: UserImport, dry_run: bool) -> Response:
    """Plan what a file says or, without `dry_run`, have it done."""
    if data.invite and uow.use_if_enabled(Passwords) is None:
        raise Unavailable("No enabled plugin keeps passwords; leave the invitations out.", "passwords_unavailable")
    importer = UserImporter()
    options = data.model_dump(exclude={"file_id", "institution_id"})
    place = await grants.place_of_import(uow, importer.permission, data.institution_id)
    job = new_import(importer, uow.actor_id, data.file_id, place, **options)
    return await answer_import(uow, importer, job, dry_run)


async def me(uow: UnitOfWork) -> Response:
    """The caller, with what they hold."""
    row = await ME.one(uow.database, user_id=uow.actor_id)
    if row is None:
        raise Unauthenticated()
    rules = uow.context.platform.rules
    return JsonBytes(
        {
            **row,
            "roles": [
                {
                    "source": held.source,
                    "kind": held.kind,
                    "object_id": held.object_id,
                    "role": held.role,
                    "grant_id": held.grant_id,
                }
                for held in uow.access.roles
            ],
            "permissions": sorted(name for name in rules.permissions if uow.access.holds_anywhere(name)),
        }
    )


async def update(uow: UnitOfWork, id: UUID, data: UserUpdate, if_match: str | None) -> Response:
    """Change what is given; of themselves users change the name, the rest is for those above them."""
    changes = data.model_dump(exclude_unset=True, exclude_none=True)
    if id == uow.access.actor_id and not uow.access.everywhere:
        if set(changes) - {"full_name"}:
            raise Forbidden("Of yourself you can change full_name only; ask your school for the rest.")
    else:
        await uow.require("users.edit", User, id)
        if changes.keys() & {"email", "is_active"}:
            await grants.refuse_unless_all_is_below(uow, id)
        else:
            await grants.refuse_unless_above(uow, id)
    user = await uow.lock(User, id, if_match)
    if changes.get("is_active") is False and user.is_active:
        await grants.refuse_last_super_admin(uow, without=id)
        uow.emit(UserDisabled(user_id=id))
    elif changes.get("is_active") and not user.is_active:
        uow.emit(UserEnabled(user_id=id))
    if "email" in changes:
        changes["email_key"] = email_key(changes["email"])
    user.sqlmodel_update(changes)
    await uow.flush()
    uow.announce(f"user:{id}")
    return await USER_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None = None) -> Response:
    """Delete a user with their roles and enrollments."""
    await uow.require("users.delete", User, id)
    await grants.refuse_unless_all_is_below(uow, id)
    await grants.refuse_last_super_admin(uow, without=id)
    return await delete(uow, User, id, if_match)


async def empty(uow: UnitOfWork, ids: Sequence[UUID], needed: Collection[UUID]) -> None:
    """Who gave grades, or owns what lives on, stays as somebody whose name nobody knows any more."""
    address = func.concat(cast(col(User.id), String), "@removed.invalid")
    nobody = {"email": address, "email_key": address, "full_name": "Removed user", "is_active": False}
    await uow.session.execute(update_rows(User).where(among(col(User.id), needed)).values(nobody))


class Directory(UserDirectory):
    """Answers other plugins' questions."""

    def __init__(self) -> None:
        self.members: dict[str, Read] = {}

    async def find(self, uow: UnitOfWork, user_id: UUID) -> Person | None:
        """A live user."""
        return await self._one(uow, User.id == user_id)

    async def find_by_email(self, uow: UnitOfWork, email: str) -> Person | None:
        """A live user by address."""
        return await self._one(uow, User.email_key == email_key(email))

    async def _one(self, uow: UnitOfWork, condition: Any) -> Person | None:
        statement = select(User).where(condition, alive(User))
        user = (await uow.session.execute(statement)).scalar_one_or_none()
        return None if user is None else Person(user.id, user.email, user.full_name, user.is_active)

    async def find_by_emails(self, uow: UnitOfWork, emails: Collection[str]) -> dict[str, Person]:
        """By their keys."""
        given = {email: email_key(email) for email in emails}
        statement = select(User).where(among_texts(col(User.email_key), list(given.values())), alive(User))
        found = {user.email_key: user for user in (await uow.session.execute(statement)).scalars()}
        return {
            email: Person(user.id, user.email, user.full_name, user.is_active)
            for email, key in given.items()
            if (user := found.get(key)) is not None
        }

    async def may_sign_in(self, uow: UnitOfWork, user_id: UUID) -> bool:
        """Alive and active."""
        return await MAY_SIGN_IN.one(uow.database, user_id=user_id) is not None

    async def members_among(
        self, uow: UnitOfWork, user_ids: Sequence[UUID], institution_id: UUID, *, below: bool = False
    ) -> dict[UUID, bool]:
        """In one statement."""
        form = "everybody" if uow.access.everywhere and not below else "below" if below else "above"
        if form not in self.members:
            self.members[form] = Read(members_of(uow.use(InstitutionTree), form))
        rows = await self.members[form].all(uow.session, user_ids=list(user_ids), institution_id=institution_id)
        return {row["id"]: row["is_active"] for row in rows}

    async def living_among(self, uow: UnitOfWork, user_ids: Sequence[UUID]) -> set[UUID]:
        """In one statement."""
        return {row["id"] for row in await HELD.all(uow.session, user_ids=list(user_ids))}

    async def institutions_of(self, uow: UnitOfWork, user_id: UUID) -> list[UUID]:
        """By grants that live and have not expired."""
        statement = select(col(Grant.institution_id)).where(
            Grant.user_id == user_id,
            col(Grant.institution_id).is_not(None),
            alive(Grant),
            or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()),
        )
        return [id for id in (await uow.session.execute(statement.distinct())).scalars() if id is not None]

    async def has_super_admin(self, uow: UnitOfWork) -> bool:
        """Whether the system has somebody to administer it."""
        statement = (
            select(User.id)
            .join(Grant, col(Grant.user_id) == col(User.id))
            .where(
                alive(User),
                col(User.is_active).is_(True),
                Grant.role == SUPER_ADMIN,
                ~col(Grant.is_deleted),
                or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()),
            )
        )
        return (await uow.session.execute(statement.limit(1))).first() is not None

    async def create_super_admin(self, uow: UnitOfWork, email: str, full_name: str) -> UUID:
        """By whoever sets the system up."""
        known = await self.find_by_email(uow, email)
        if known is None:
            user = User(email=email, email_key=email_key(email), full_name=full_name)
            await uow.add(user)
            uow.emit(UserCreated(user_id=user.id))
        user_id = user.id if known is None else known.id
        await grants.grant(uow, user_id, RoleGrant(role=SUPER_ADMIN))
        return user_id


async def not_found_unless_known(uow: UnitOfWork, user_id: UUID) -> None:
    """404 when the caller may not know the user."""
    if not await uow.knows(User, user_id):
        raise NotFound("users.user", user_id)


def members_of(tree: InstitutionTree, form: str) -> Any:
    """Those who live and are anybody, or hold a role at an institution or above, or below it too."""
    if form == "everybody":
        return LIVING
    place: Any = bindparam("institution_id", type_=Uuid())
    at: ColumnElement[bool] = col(Grant.institution_id).in_(tree.and_above(place))
    if form == "below":
        at = or_(at, col(Grant.institution_id).in_(tree.and_below(place)))
    lasts = or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now())
    return LIVING.where(col(User.id).in_(select(Grant.user_id).where(at, ~col(Grant.is_deleted), lasts)))
