"""Who may do what: roles come from SQL, permissions from roles, and the default is no.

An `Access` is what one actor holds, loaded with one statement. Every question, "may they touch this one" as well
as "which ones may they list", becomes a condition in SQL over the ids in it; nothing is loaded to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    String,
    Uuid,
    and_,
    any_,
    bindparam,
    cast,
    column,
    exists,
    extract,
    false,
    func,
    inspect,
    literal,
    null,
    or_,
    select,
    table,
    true,
    union_all,
)
from sqlalchemy.orm import aliased
from sqlmodel import col

from lms_core.conditions import exists_for_each
from lms_core.db import Database, Table
from lms_core.kinds import Kind, Kinds, alive, kind_name, scope_columns
from lms_core.session import DirectSession
from lms_core.statements import Read
from lms_core.types import HeldRole, Permission, ReadRule, ReadThrough, RoleSource

if TYPE_CHECKING:
    from lms_core.uow import Context

SUPER_ADMIN = "super_admin"
ACTOR_ID: Any = bindparam("actor_id", type_=Uuid())
ROW_ID: Any = bindparam("row_id", type_=Uuid())


def without(ids: dict[str, list[UUID]], kind: str) -> dict[str, list[UUID]]:
    """The ids of all other kinds."""
    return {name: found for name, found in ids.items() if name != kind}


def bound_ids(name: str) -> Any:
    """A bound list of ids."""
    return any_(bindparam(name, type_=ARRAY(Uuid())))


def permissions_column(held: Any) -> Any:
    """What a source says that its roles give; NULL from one that says nothing."""
    array = ARRAY(String())
    return held.c.permissions if "permissions" in held.c else cast(null(), array)


def holders_of(statement: Select[*tuple[Any, ...]]) -> Any:
    """Of what a source says, who holds a role where: the rest takes PostgreSQL as long to plan as this."""
    asked = [column for column in statement.selected_columns if column.key in ("actor_id", "object_id", "deletion_id")]
    return statement.with_only_columns(*asked, maintain_column_froms=True).subquery()


def deleted_by_actor(model: type[Table]) -> ColumnElement[bool]:
    """The row was taken by a delete of the caller's own."""
    deletion = table("core_deletion", column("id"), column("actor_id"))
    return exists().where(deletion.c.id == col(model.deletion_id), deletion.c.actor_id == ACTOR_ID)


@dataclass(frozen=True)
class Scope:
    """Where one permission is held: everywhere, or at these objects of these kinds."""

    everywhere: bool
    ids: dict[str, list[UUID]]

    @property
    def shape(self) -> Hashable:
        """What decides the form of the SQL: not the ids, but the kinds that there are ids of."""
        return self.everywhere or tuple(sorted(self.ids))


@dataclass
class Access:
    """What one actor holds. `system` is the program itself (handlers, schedules, commands), which may everything."""

    actor_id: UUID | None
    roles: tuple[HeldRole, ...] = ()
    rules: Rules | None = None
    system: bool = False
    session_id: UUID | None = None
    scopes: dict[tuple[str, str | None], Scope] = field(default_factory=dict)
    filters: dict[Hashable, Filter] = field(default_factory=dict)

    @cached_property
    def everywhere(self) -> bool:
        """Whether no question needs asking: the program itself, or a super admin."""
        return self.system or any(role.role == SUPER_ADMIN and role.object_id is None for role in self.roles)

    def scope(self, permission: str, kind: str | None) -> Scope:
        """Where a permission counts for rows of a kind (None: for people, by the objects where they hold roles)."""
        key = (permission, kind)
        if key not in self.scopes:
            self.scopes[key] = self.find_scope(permission, kind)
        return self.scopes[key]

    def find_scope(self, permission: str, kind: str | None) -> Scope:
        """Go through the roles once; `scope` keeps the answer."""
        if self.everywhere:
            return Scope(True, {})
        if self.rules is None or permission not in self.rules.permissions:
            return Scope(False, {})
        ids: dict[str, dict[UUID, None]] = {}
        for held in self.roles:
            if not self.rules.gives(held, permission, kind):
                continue
            if held.object_id is None:
                return Scope(True, {})
            ids.setdefault(held.kind, {})[held.object_id] = None
        return Scope(False, {kind: list(found) for kind, found in ids.items()})

    def holds_anywhere(self, permission: str) -> bool:
        """Whether there is any object at all at which the permission is held."""
        if self.everywhere:
            return True
        if self.rules is None or permission not in self.rules.permissions:
            return False
        named = self.rules.roles_with(permission)
        return any(
            held.role in named if held.permissions is None else permission in held.permissions for held in self.roles
        )


@dataclass
class Filter:
    """A condition over rows of one model, in three parts: its form, its values, and how to write it in SQL."""

    shape: Hashable
    parameters: dict[str, Any]
    write: Callable[[Any], ColumnElement[bool]]
    never: bool = False
    write_for_many: Callable[[Any], ColumnElement[bool]] | None = None
    gathers: bool = False
    """Whether that form first looks up everything further up where the caller may: the newest rows are asked before."""

    def write_list(self, entity: Any) -> ColumnElement[bool]:
        """The same condition in a form that is evaluated once for many rows, not once for each."""
        return (self.write_for_many or self.write)(entity)


@dataclass
class Rules:
    """Everything that plugins declared about who may do what."""

    kinds: Kinds
    permissions: dict[str, Permission] = field(default_factory=dict)
    sources: list[RoleSource] = field(default_factory=list)
    read_rules: dict[str, list[ReadRule]] = field(default_factory=dict)
    reads_through: dict[str, list[ReadThrough]] = field(default_factory=dict)
    reading_of: dict[str, list[ReadRule]] = field(default_factory=dict)
    held_read: Read | None = None
    check_reads: dict[Hashable, Read] = field(default_factory=dict)
    writers: dict[Hashable, tuple[Callable[[Any], ColumnElement[bool]], Callable[[Any], ColumnElement[bool]]]] = field(
        default_factory=dict
    )

    @cached_property
    def role_tables(self) -> frozenset[FromClause]:
        """The tables from which roles are read; asked first when everything is declared, and kept."""
        return frozenset(table for source in self.sources for table in source.statement.get_final_froms())

    @property
    def memberships(self) -> dict[str, frozenset[str]]:
        """Which roles of each source are mere memberships."""
        return {source.name: source.memberships for source in self.sources}

    def gives(self, held: HeldRole, permission: str, kind: str | None) -> bool:
        """Whether a held role gives a declared permission on rows of a kind (None: on people).

        An institution's own role is a bundle of permissions, and as good as a principal's below where it is held.
        """
        if held.permissions is not None:
            return permission in held.permissions
        declared = self.permissions[permission]
        is_membership = held.role in self.memberships.get(held.source, frozenset())
        return held.role in (declared.members if is_membership and held.kind != kind else declared.roles)

    def roles_with(self, permission: str) -> frozenset[str]:
        """The roles that a permission names in any way."""
        declared = self.permissions[permission]
        return frozenset(declared.roles) | frozenset(declared.members)

    def permissions_of(self, role: str) -> frozenset[str]:
        """All that name a role."""
        return frozenset(name for name in self.permissions if role in self.roles_with(name))

    def reading(self, model: type[Table]) -> list[ReadRule]:
        """How rows of this kind become readable; asked first when everything is declared, and kept."""
        name = kind_name(model)
        if name not in self.reading_of:
            own = self.read_rules.get(name) or [ReadRule(model, f"{name.split('.', 1)[0]}.read")]
            others = [ReadRule(model, one.permission, one.where(model)) for one in self.reads_through.get(name, [])]
            self.reading_of[name] = [*own, *others]
        return self.reading_of[name]

    # Filters

    def readable(self, access: Access, model: type[Table], dead: bool = False) -> Filter:
        """Which rows may this actor read; with `dead`, or could they if these lived?"""
        name = "known" if dead else "read"
        if (name, model) not in access.filters:
            access.filters[name, model] = self.any_of(access, model, self.reading(model), name, dead)
        return access.filters[name, model]

    def permitted(self, access: Access, permission: str, model: type[Table], name: str = "may") -> Filter:
        """On which rows does this actor have the permission? `name` keeps several in one statement apart."""
        if (name, permission, model) not in access.filters:
            rules = [self.rule_for(model, permission)]
            access.filters[name, permission, model] = self.any_of(access, model, rules, name)
        return access.filters[name, permission, model]

    def rule_for(self, model: type[Table], permission: str) -> ReadRule:
        """How a permission is asked on rows of a kind: as its own read rule says, else as those for people do."""
        rules = self.reading(model)
        asked = [rule for rule in rules if rule.permission == permission] or rules
        holder = next((rule.holder for rule in asked if rule.holder is not None), None)
        return ReadRule(model, permission, holder=holder)

    def restorable(self, access: Access, kind: Kind, name: str, permission: str | None = None) -> Filter:
        """Which dead rows of a kind may this actor bring back, or what else is asked of what may be dead?

        Roles spread over the living part of a tree, so what hangs below that counts too; for a person, the roles that
        the same delete took do.
        """
        holder = next((rule.holder for rule in kind.rules if rule.holder is not None), None)
        own = [
            replace(rule, where=and_(true() if rule.where is None else rule.where, deleted_by_actor(kind.model)))
            for rule in kind.rules
            if rule.restores and permission is None
        ]
        by_permission = ReadRule(kind.model, permission or kind.restore_permission, holder=holder)
        return self.any_of(access, kind.model, [by_permission, *own], name, dead=True)

    def restorable_kinds(
        self, access: Access, name: str, permission: str | None = None
    ) -> tuple[list[tuple[Kind, Filter]], dict[str, Any]]:
        """The same for every kind of which there may be such rows, in one statement; and the values of all of them."""
        parts = []
        parameters: dict[str, Any] = {"actor_id": access.actor_id}
        for kind in self.kinds.by_name.values():
            permitted = self.restorable(access, kind, f"{name}_{kind.plugin}_{kind.noun}_", permission)
            if not permitted.never:
                parameters |= permitted.parameters
                parts.append((kind, permitted))
        return parts, parameters

    def check_read(self, form: Hashable, write: Callable[[], Select[*tuple[Any, ...]]]) -> Read:
        """The compiled question of this form."""
        if form not in self.check_reads:
            self.check_reads[form] = Read(write(), plan_once=True)
        return self.check_reads[form]

    async def holds(
        self, source: Database | DirectSession, asked: Filter, model: type[Table], id: UUID, dead_too: bool = False
    ) -> bool:
        """Whether a row is among those of a filter, and lives (with `dead_too`: or may come back)."""
        if asked.never:
            return False
        read = self.check_read(
            ("holds", kind_name(model), asked.shape, dead_too),
            lambda: select(col(model.id)).where(
                col(model.id) == ROW_ID, true() if dead_too else alive(model), asked.write(model)
            ),
        )
        return await read.one(source, **asked.parameters, row_id=id) is not None

    async def holds_on_all(
        self, source: Database | DirectSession, asked: Filter, model: type[Table], ids: Collection[UUID]
    ) -> bool:
        """Whether each of some rows is among those of a filter, and lives."""
        if asked.never:
            return not ids
        read = self.check_read(
            ("holds on all", kind_name(model), asked.shape),
            lambda: select(func.count().label("number")).where(
                col(model.id) == bound_ids("row_ids"), alive(model), asked.write(model)
            ),
        )
        row = await read.one(source, **asked.parameters, row_ids=list(ids))
        return row is not None and row["number"] == len(ids)

    async def check(
        self, source: Database | DirectSession, access: Access, permission: str, model: type[Table], id: UUID
    ) -> tuple[bool, bool]:
        """Whether the actor may know a live row, and whether they have the permission on it."""
        readable, permitted = self.readable(access, model), self.permitted(access, permission, model)
        if readable.never and permitted.never:
            return False, False
        read = self.check_read(
            ("check", kind_name(model), readable.shape, permitted.shape),
            lambda: select(readable.write(model).label("known"), permitted.write(model).label("allowed")).where(
                col(model.id) == ROW_ID, alive(model)
            ),
        )
        values = {**readable.parameters, **permitted.parameters, "row_id": id}
        row = await read.one(source, **values)
        return (False, False) if row is None else (bool(row["known"]), bool(row["allowed"]))

    def any_of(
        self, access: Access, model: type[Table], rules: Sequence[ReadRule], name: str, dead: bool = False
    ) -> Filter:
        """The rows for which at least one rule says yes; `name` keeps two filters in one statement apart."""
        if access.system:
            return Filter("all", {}, lambda entity: true())
        parameters: dict[str, Any] = {"actor_id": access.actor_id}
        shape: list[Hashable] = []
        parts: list[tuple[ReadRule, Scope | None, str]] = []
        gathers = False
        for number, rule in enumerate(rules):
            scope = None
            prefix = f"{name}{number}_"
            if rule.permission is not None:
                scope = access.scope(rule.permission, None if rule.holder is not None else kind_name(model))
                if not scope.everywhere and not scope.ids:
                    continue
                parameters |= {self.parameter(prefix, kind): ids for kind, ids in scope.ids.items()}
                gathers |= not scope.everywhere and (rule.holder is not None or self.is_far(model, scope))
            shape.append((number, rule.permission, scope.shape if scope else None))
            parts.append((rule, scope, prefix))

        def write(entity: Any, many: bool = False) -> ColumnElement[bool]:
            return or_(false(), *(self.write_rule(entity, *part, dead, many) for part in parts))

        form = (name, kind_name(model), tuple(shape))
        # Kept once for each form: it would be most of what a process remembers of a caller.
        kept = self.writers.setdefault((form, dead), (write, partial(write, many=True)))
        return Filter(form, parameters, kept[0], not parts, kept[1], gathers)

    def is_far(self, model: type[Table], scope: Scope) -> bool:
        """Whether a scope holds objects that rows hang under, but not at once."""
        near = {kind_name(model), *(edge.parent for edge in self.kinds.edges.get(model, []))}
        return bool({kind for kind, _ in scope_columns(self.kinds, model)} & set(scope.ids) - near)

    def write_rule(
        self, entity: Any, rule: ReadRule, scope: Scope | None, prefix: str, dead: bool, many: bool
    ) -> ColumnElement[bool]:
        """One rule as SQL."""
        conditions: list[ColumnElement[bool]] = [] if rule.where is None else [rule.where]
        if scope is not None and not scope.everywhere:
            if rule.holder is not None:
                conditions.append(self.held_within(rule.holder, scope, prefix, entity if dead else None, many))
            else:
                conditions.append(self.within(entity, scope, prefix, many, dead))
        return and_(true(), *conditions)

    def within(
        self, entity: Any, scope: Scope, prefix: str, many: bool = False, dead: bool = False
    ) -> ColumnElement[bool]:
        """The row, or something that it hangs under, is in the scope.

        What is further up than the next parent is looked up row by row, or with `many` once: the parents in the scope
        as one array. With `dead`, what died below an object in the scope counts as in it.
        """
        found: list[ColumnElement[bool]] = []
        model = inspect(entity).mapper.class_
        own = kind_name(model)
        if issubclass(model, Table) and own in scope.ids:
            found.append(self.named(entity.id, own, prefix, dead))
        for edge in self.kinds.edges.get(model, []):
            parent = self.kinds.by_name[edge.parent].model
            if parent is model or edge.inside:
                continue
            column = getattr(entity, edge.column)
            if edge.parent in scope.ids:
                found.append(self.named(column, edge.parent, prefix, dead))
            other = aliased(parent)
            further = {kind for kind, _ in scope_columns(self.kinds, other)} - {edge.parent}
            if further & set(scope.ids):
                above = self.within(other, replace(scope, ids=without(scope.ids, edge.parent)), prefix, many, dead)
                if many:
                    chosen = select(col(other.id)).where(above)
                    found.append(column == any_(func.array(chosen.scalar_subquery(), type_=ARRAY(Uuid()))))
                else:
                    found.append(exists_for_each(col(other.id) == column, above))
        return or_(false(), *found)

    def parameter(self, prefix: str, kind: str) -> str:
        """What the ids of a kind in a scope are called among the values of a statement."""
        return prefix + kind.replace(".", "_")

    def named(self, column: Any, name: str, prefix: str, dead: bool) -> ColumnElement[bool]:
        """The column names one of the objects of this kind that are in a scope; with `dead`, or what died below them."""
        kind, array = self.kinds.by_name[name], ARRAY(Uuid())
        given: Any = bindparam(self.parameter(prefix, name), type_=array)
        if dead and kind.is_tree:
            top, next_below = aliased(kind.model), aliased(kind.model)
            parent = kind.tree_column().key
            died = (
                select(col(top.id))
                .where(getattr(top, parent) == any_(given), col(top.is_deleted))
                .cte(recursive=True, nesting=True)
            )
            died = died.union(select(col(next_below.id)).where(getattr(next_below, parent) == died.c.id))
            # One array: of two conditions PostgreSQL uses no index.
            given = func.array_cat(given, func.array(select(died.c.id).scalar_subquery(), type_=array), type_=array)
        found: ColumnElement[bool] = column == any_(given)
        return found

    def held_within(self, holder: Any, scope: Scope, prefix: str, dead: Any, many: bool = False) -> ColumnElement[bool]:
        """The person holds some role at an object in the scope, or at one that hangs under it.

        `dead` is None, or the entity of rows that may be dead: then a role counts too that the row's own deletion took,
        or the deletion of the place where it was held. With `many`, the people who do are looked up once.
        """
        found: list[ColumnElement[bool]] = []
        for source in self.sources:
            held = holders_of(source.statement)
            placed = self.placed(source, held, scope, prefix, dead is not None)
            if placed and many:
                holders = select(held.c.actor_id).where(*placed).distinct()
                found.append(holder == any_(func.array(holders.scalar_subquery(), type_=ARRAY(Uuid()))))
            elif placed:
                found.append(exists().where(held.c.actor_id == holder, *placed))
            if dead is not None and source.taken is not None:
                taken = holders_of(source.taken)
                same = or_(taken.c.deletion_id == dead.deletion_id, self.went_with_place(source, taken))
                placed = self.placed(source, taken, scope, prefix, True)
                if placed:
                    found.append(exists().where(taken.c.actor_id == holder, *placed, same))
        return or_(false(), *found)

    def went_with_place(self, source: RoleSource, taken: Any) -> ColumnElement[bool]:
        """The role is gone since the place is, not since somebody took it away."""
        place = aliased(self.kinds.by_name[source.kind].model)
        return exists().where(col(place.id) == taken.c.object_id, col(place.deletion_id) == taken.c.deletion_id)

    def placed(self, source: RoleSource, held: Any, scope: Scope, prefix: str, dead: bool) -> list[ColumnElement[bool]]:
        """The roles in these rows that are held at an object in the scope; nothing when none can be."""
        target = aliased(self.kinds.by_name[source.kind].model)
        reachable = {kind for kind, _ in scope_columns(self.kinds, target)} & set(scope.ids)
        if not reachable:
            return []
        if reachable == {source.kind}:
            return [self.named(held.c.object_id, source.kind, prefix, dead)]
        return [col(target.id) == held.c.object_id, self.within(target, scope, prefix, dead=dead)]

    # Roles

    def held_statement(self) -> Select[Any]:
        """All roles of `:actor_id` from all sources, those in a tree spread over everything below."""
        selects = []
        for source in self.sources:
            held = source.statement.subquery()
            selects.append(
                select(
                    literal(source.name).label("source"),
                    literal(source.kind).label("kind"),
                    held.c.object_id,
                    held.c.role,
                    held.c.grant_id,
                    held.c.expires_at,
                    permissions_column(held).label("permissions"),
                ).where(held.c.actor_id == ACTOR_ID)
            )
        held_roles = union_all(*selects).cte("held")
        columns = ("source", "kind", "object_id", "role", "grant_id", "expires_at", "permissions")
        trees = [
            self.kinds.by_name[name]
            for name in sorted({source.kind for source in self.sources})
            if self.kinds.by_name[name].is_tree
        ]
        flat = select(*(held_roles.c[name] for name in columns)).where(
            or_(held_roles.c.object_id.is_(None), held_roles.c.kind.notin_([kind.name for kind in trees]))
        )
        spread: list[Select[Any]] = [flat]
        for kind in trees:
            model = kind.model
            top = (
                select(*(held_roles.c[name] for name in columns))
                .join(model, model.id == held_roles.c.object_id)  # type: ignore[arg-type]
                .where(held_roles.c.kind == kind.name, ~col(model.is_deleted))
                .cte(f"tree_{kind.noun}", recursive=True)
            )
            child = aliased(model)
            parent_column = getattr(child, kind.tree_column().key)
            carried = (top.c.role, top.c.grant_id, top.c.expires_at, top.c.permissions)
            below = select(top.c.source, top.c.kind, col(child.id), *carried).where(
                parent_column == top.c.object_id,
                ~col(child.is_deleted),
            )
            tree = top.union(below)
            spread.append(select(*(tree.c[name] for name in columns)))
        everything = union_all(*spread).subquery()
        return select(
            *(everything.c[name] for name in columns),
            extract("epoch", everything.c.expires_at - func.now()).label("seconds_left"),
        )

    async def load(self, context: Context, actor_id: UUID, session_id: UUID | None = None) -> tuple[Access, float]:
        """What an actor holds now, and for how many seconds at most that stays true by itself."""
        if not self.sources:
            return Access(actor_id, (), self, session_id=session_id), float("inf")
        if self.held_read is None:
            self.held_read = Read(self.held_statement(), plan_once=True)
        rows = await self.held_read.all(context.database, actor_id=actor_id)
        roles = tuple(
            HeldRole(
                row["source"],
                row["kind"],
                row["object_id"],
                row["role"],
                row["grant_id"],
                row["expires_at"],
                None if row["permissions"] is None else frozenset(row["permissions"]),
                self.kinds.by_name[row["kind"]].stands_for_person,
            )
            for row in rows
        )
        seconds = min(
            (float(row["seconds_left"]) for row in rows if row["seconds_left"] is not None), default=float("inf")
        )
        return Access(actor_id, roles, self, session_id=session_id), seconds
