"""What hangs under what: the graph of kinds that plugins declare, and the conditions that follow from it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, and_, inspect, or_, true
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from lms_core.conditions import exists_for_each
from lms_core.db import Table
from lms_core.errors import StartRefused
from lms_core.types import Cascade, Part, Reaction, ReadRule, Removal

if TYPE_CHECKING:
    from lms_core.locking import Lock


@dataclass
class Kind:
    """One soft-deletable table: its name (`courses.course`), plugin and noun, and what it hangs under."""

    name: str
    model: type[Table]
    parents: list[Cascade] = field(default_factory=list)
    children: list[Cascade] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    rules: list[ReadRule] = field(default_factory=list)
    removal: Removal | None = None

    @property
    def plugin(self) -> str:
        """The plugin that owns it."""
        return self.name.split(".", 1)[0]

    @property
    def noun(self) -> str:
        """The word for one of it."""
        return self.name.split(".", 1)[1]

    @property
    def restore_permission(self) -> str:
        """Who has this permission on a row may bring it back."""
        return self.model.restore_permission or f"{self.plugin}.restore"

    @property
    def stands_for_person(self) -> bool:
        """Whether permissions on a row are asked of the places where that person holds a role."""
        return any(rule.holder is not None for rule in self.rules)

    @property
    def is_person(self) -> bool:
        """Whether its rows are people themselves."""
        return any(rule.holder is self.model.id for rule in self.rules)

    @property
    def is_tree(self) -> bool:
        """Whether rows of this kind hang under rows of the same kind."""
        return any(edge.parent == self.name for edge in self.parents)

    def tree_column(self) -> Any:
        """The column that points at the parent of the same kind; None where it is no tree."""
        for edge in self.parents:
            if edge.parent == self.name:
                return getattr(self.model, edge.column)
        return None


def kind_name(model: type[Any]) -> str:
    """`courses_course` is the kind `courses.course`."""
    return str(inspect(model).local_table.name).replace("_", ".", 1)


def pointing_at(model: type[Any], table: Any) -> list[str]:
    """The columns of a table that point at another one."""
    columns = inspect(model).local_table.columns
    return [column.key for column in columns if any(key.column.table is table for key in column.foreign_keys)]


class Kinds:
    """All kinds of the running platform, by full name and, where it is unambiguous, by noun."""

    def __init__(self) -> None:
        self.by_name: dict[str, Kind] = {}
        self.by_noun: dict[str, Kind | None] = {}
        self.edges: dict[type[Any], list[Cascade]] = {}
        self.alive_of: dict[type[Any], ColumnElement[bool]] = {}
        self.parts: list[Part] = []
        # What is built once for a graph (locking.py), until the graph is another.
        self.locks: dict[Hashable, Lock] = {}

    def add_model(self, model: type[Table]) -> None:
        """Make a table known as a kind."""
        name = kind_name(model)
        kind = self.by_name[name] = Kind(name, model)
        # One that two have is nobody's.
        self.by_noun[kind.noun] = None if kind.noun in self.by_noun else kind

    def add_cascade(self, plugin: str, cascade: Cascade) -> None:
        """Declare an edge; StartRefused when the parent is unknown or the column is missing."""
        self.alive_of.clear()
        self.locks.clear()
        parent = self.named(plugin, "a cascade under", cascade.parent)
        if cascade.column not in inspect(cascade.child).columns:
            raise StartRefused(
                f"Plugin {plugin} declares a cascade by the column {cascade.column}, "
                f"which {cascade.child.__name__} does not have; correct the name."
            )
        if issubclass(cascade.child, Table) and kind_name(cascade.child) not in self.by_name:
            raise StartRefused(
                f"Plugin {plugin} declares a cascade of {cascade.child.__name__}, which it does not declare as a table; "
                f"add it to lms_models."
            )
        self.edges.setdefault(cascade.child, []).append(cascade)
        child = self.by_name.get(kind_name(cascade.child))
        if child is not None:
            child.parents.append(cascade)
            if cascade.takes:
                parent.children.append(cascade)

    def add_reaction(self, plugin: str, reaction: Reaction) -> None:
        """Declare what else must hold; StartRefused when it names a kind that is not there."""
        model = reaction.model
        kind = self.named(plugin, "a reaction to", model) if isinstance(model, str) else self.of(model)
        kind.reactions.append(reaction)

    def named(self, plugin: str, declared: str, name: str) -> Kind:
        """The kind that a plugin declares something of; StartRefused when no plugin has it."""
        if name not in self.by_name:
            raise StartRefused(
                f"Plugin {plugin} declares {declared} {name}, which no enabled plugin has; "
                f"add the plugin that owns it to `requires` or correct the name."
            )
        return self.by_name[name]

    def add_part(self, plugin: str, part: Part) -> None:
        """Declare what goes for good with what; StartRefused when it names what is not there."""
        of = self.named(plugin, "a part of", part.of).model if isinstance(part.of, str) else part.of
        if part.column not in inspect(part.model).columns:
            raise StartRefused(
                f"Plugin {plugin} declares a part by the column {part.column}, "
                f"which {part.model.__name__} does not have; correct the name."
            )
        self.parts.append(replace(part, of=of))

    def find(self, name: str) -> Kind | None:
        """A kind by `courses.course` or `course`."""
        return self.by_name.get(name) or self.by_noun.get(name)

    @property
    def person(self) -> Kind | None:
        """The kind whose rows are people, where a plugin has one."""
        return next((kind for kind in self.by_name.values() if kind.is_person), None)

    def of_noun(self, name: str) -> Kind:
        """As `find`; the start has made sure that guards name kinds that exist."""
        kind = self.find(name)
        if kind is None:
            raise KeyError(name)
        return kind

    def of(self, model: type[Table]) -> Kind:
        """The kind of a table."""
        return self.by_name[kind_name(model)]

    def below(self, root: str) -> list[tuple[Cascade, Kind]]:
        """Every edge under a kind that deletion follows, parents before children; the root's own tree left out."""
        order: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            for edge in self.by_name[name].children:
                if edge.parent != kind_name(edge.child):
                    visit(kind_name(edge.child))
            order.append(name)

        visit(root)
        order.reverse()
        rank = {name: index for index, name in enumerate(order)}
        edges = [
            (edge, self.by_name[kind_name(edge.child)])
            for name in order
            for edge in self.by_name[name].children
            if edge.parent != kind_name(edge.child)
        ]
        return sorted(edges, key=lambda pair: rank[pair[1].name])


current = Kinds()


def use(kinds: Kinds) -> None:
    """Make these the kinds of this process; one process runs one platform."""
    global current
    current = kinds


def alive(model: Any, own: bool = True) -> ColumnElement[bool]:
    """Rows that live, and whose ancestors all live: true from the answer of a delete on, cascade done or not.

    Parents of the same kind need no look: a tree is stamped whole in the request that deletes it.
    """
    if not current.by_name:
        raise RuntimeError(f"What {model} hangs under is not known while modules are imported; ask in a function.")
    entity = inspect(model).mapper.class_
    if model is entity and own:
        if entity not in current.alive_of:
            current.alive_of[entity] = all_alive(entity, entity, own)
        return current.alive_of[entity]
    return all_alive(model, entity, own)


def all_alive(model: Any, entity: type[Any], own: bool) -> ColumnElement[bool]:
    """The conditions of `alive`, built anew; those for a model itself are kept, since nearly every request has them."""
    conditions: list[ColumnElement[bool]] = []
    if own and issubclass(entity, Table):
        conditions.append(~model.is_deleted)
    for edge in current.edges.get(entity, []):
        parent = current.by_name[edge.parent].model
        if parent is entity:
            continue
        other = aliased(parent)
        column = getattr(model, edge.column)
        lives = exists_for_each(other.id == column, ~col(other.is_deleted) if edge.inside else alive(other))
        nullable = inspect(entity).columns[edge.column].nullable
        conditions.append(or_(column.is_(None), lives) if nullable else lives)
    return and_(true(), *conditions)


def live(model: type[Any]) -> Select[Any]:
    """`select(model)`, of what lives."""
    return select(model).where(alive(model))


def scope_columns(kinds: Kinds, model: Any) -> Iterable[tuple[str, Any]]:
    """(kind, expression) for a row and all it hangs under: the objects at which a role counts for this row.

    The expression is the row's own id, a column, or a select for what is further up.
    """
    entity = inspect(model).mapper.class_
    if issubclass(entity, Table):
        yield kind_name(entity), model.id
    for edge in kinds.edges.get(entity, []):
        parent = kinds.by_name[edge.parent].model
        if parent is entity:
            continue
        column = getattr(model, edge.column)
        yield edge.parent, column
        if edge.inside:
            continue
        other = aliased(parent)
        for further, expression in scope_columns(kinds, other):
            if further != edge.parent:
                yield further, select(expression).where(other.id == column).scalar_subquery()
