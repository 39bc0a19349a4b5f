"""How most FastAPI tutorials do it: SQLModel entities, `response_model`, a session per request, a middleware."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import registry, selectinload
from sqlmodel import Field, Relationship, SQLModel, col, select
from starlette.middleware.base import BaseHTTPMiddleware

KEY = OctKey.import_key("a secret for the tutorial's tokens, long enough")
POOL = 10


class OwnTables(SQLModel, registry=registry()):
    """Apart from ours, which have the same names."""


class TutorialTerm(OwnTables, table=True):
    """A term, as a tutorial has it."""

    __tablename__ = "courses_term"

    id: UUID = Field(primary_key=True)
    name: str
    starts_on: date
    ends_on: date
    is_deleted: bool


class TutorialCourse(OwnTables, table=True):
    """A course, as a tutorial has it."""

    __tablename__ = "courses_course"

    id: UUID = Field(primary_key=True)
    institution_id: UUID
    term_id: UUID | None = Field(foreign_key="courses_term.id")
    code: str
    title: str
    description: str
    state: str
    capacity: int | None
    waitlist: bool
    self_enrollment: str
    starts_on: date | None
    ends_on: date | None
    created_at: datetime
    updated_at: datetime
    is_deleted: bool
    term: TutorialTerm | None = Relationship()


class TutorialUser(OwnTables, table=True):
    """A user, as a tutorial has it."""

    __tablename__ = "users_user"

    id: UUID = Field(primary_key=True)
    full_name: str
    is_active: bool


class TermOut(SQLModel):
    """What clients get of a term."""

    id: UUID
    name: str
    starts_on: date
    ends_on: date


class CourseOut(SQLModel):
    """What clients get of a course."""

    id: UUID
    institution_id: UUID
    term: TermOut | None
    code: str
    title: str
    description: str
    state: str
    capacity: int | None
    waitlist: bool
    self_enrollment: str
    starts_on: date | None
    ends_on: date | None
    created_at: datetime
    updated_at: datetime


def token_of(user_id: str) -> str:
    """What the tutorial's clients send."""
    return jwt.encode({"alg": "HS256"}, {"sub": user_id}, KEY)


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session per request, as tutorials depend on it."""
    async with request.app.state.sessions() as opened:
        yield opened


Opened = Annotated[AsyncSession, Depends(session)]


async def user(opened: Opened, authorization: Annotated[str, Header()] = "") -> TutorialUser:
    """Who is signed in, verified and read for each request."""
    claims = jwt.decode(authorization.removeprefix("Bearer "), KEY).claims
    found = await opened.get(TutorialUser, UUID(claims["sub"]))
    if found is None or not found.is_active:
        raise HTTPException(401)
    return found


Who = Annotated[TutorialUser, Depends(user)]


async def told(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """A middleware, as tutorials add them."""
    response = await call_next(request)
    response.headers["X-Request-ID"] = request.headers.get("X-Request-ID", "")
    return response


async def courses(opened: Opened, who: Who, limit: int = 50) -> Any:
    """The newest courses."""
    statement = (
        select(TutorialCourse)
        .where(~col(TutorialCourse.is_deleted))
        .options(selectinload(TutorialCourse.term))  # type: ignore[arg-type]
        .order_by(col(TutorialCourse.id).desc())
        .limit(limit)
    )
    return (await opened.execute(statement)).scalars().all()


async def course(opened: Opened, who: Who, course_id: UUID) -> Any:
    """One course."""
    found = await opened.get(TutorialCourse, course_id, options=[selectinload(TutorialCourse.term)])  # type: ignore[arg-type]
    if found is None or found.is_deleted:
        raise HTTPException(404)
    return found


def create() -> FastAPI:
    """SQLModel entities, `response_model`, a session per request, the user by dependency, a middleware for the request's id."""
    address = os.environ["LMS_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(address, pool_size=POOL, pool_pre_ping=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    application = FastAPI(lifespan=lifespan)
    application.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    application.add_middleware(BaseHTTPMiddleware, dispatch=told)
    application.get("/courses", response_model=list[CourseOut])(courses)
    application.get("/courses/{course_id}", response_model=CourseOut)(course)
    return application
