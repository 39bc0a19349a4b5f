"""The audit trail: who did what to which object, when and from where, with what each field was before and after.

The unit of work writes it, in the transaction of the change itself, so that no service can forget to and no entry
tells of what never came to be. The database refuses to change or remove an entry, whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Index, event, inspect, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlmodel import Field

from lms_core.db import Record, Table, new_id
from lms_core.kinds import kind_name

SESSION_KEY = "lms_audit"
LONGEST_TEXT = 1_000
BOOKKEEPING = frozenset({"id", "created_at", "updated_at", "version", "is_deleted", "deletion_id"})
HIDDEN = "hidden"
"""Stands for both values of a secret: that it changed is told, not what it was or is."""

CREATED, CHANGED, DELETED, RESTORED = "created", "changed", "deleted", "restored"


class AuditEntry(Record, table=True):
    """One thing that was done to one object. `changes` has `{field: {"before": …, "after": …}}`."""

    __tablename__ = "core_audit_entry"
    __table_args__ = (
        Index("ix_core_audit_entry_object", "object_id", "id"),
        Index("ix_core_audit_entry_actor", "actor_id", "id"),
        Index("ix_core_audit_entry_kind", "kind", "id"),
        # Every page of all has the two that are left out.
        Index(
            "ix_core_audit_entry_action",
            "action",
            "id",
            postgresql_where=text("action <> 'created' AND action <> 'changed'"),
        ),
    )

    actor_id: UUID | None = None
    address: str | None = None
    request_id: str | None = None
    action: str
    kind: str
    object_id: UUID
    changes: dict[str, Any] = Field(sa_type=JSONB)


@dataclass
class Noted:
    """An entry that is not stored yet."""

    action: str
    kind: str
    object_id: UUID
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Trail:
    """What one unit of work has done so far: one entry for each action on each object."""

    entries: dict[tuple[str, UUID, str], Noted] = field(default_factory=dict)

    def note(self, action: str, kind: str, object_id: UUID, changes: dict[str, dict[str, Any]] | None = None) -> None:
        """Add to the entry; a field that changed twice keeps what it was first."""
        # What a new object changes into within the same transaction is what it was created as.
        if action == CHANGED and (kind, object_id, CREATED) in self.entries:
            action = CREATED
        entry = self.entries.get((kind, object_id, action))
        if entry is None:
            # A copy, since what is told later of the same object is added to it.
            self.entries[kind, object_id, action] = Noted(action, kind, object_id, dict(changes or {}))
            return
        for name, change in (changes or {}).items():
            before = entry.changes[name]["before"] if name in entry.changes else change["before"]
            entry.changes[name] = {"before": before, "after": change["after"]}

    def rows(self) -> list[dict[str, Any]]:
        """The entries as they are stored, all in one statement."""
        return [
            {"id": new_id(), "action": one.action, "kind": one.kind, "object_id": one.object_id, "changes": one.changes}
            for one in self.entries.values()
        ]


def as_shown(model: type[Table], name: str, value: Any) -> Any:
    """A value as the trail keeps it: no secret, and of a long text only the beginning."""
    if value is not None and name in model.secret_columns:
        return HIDDEN
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[:LONGEST_TEXT] + "…"
    return value


@event.listens_for(Session, "before_flush")
def note_changes(session: Session, *_: Any) -> None:
    """Every row of a kind that a session is about to write."""
    trail: Trail | None = session.info.get(SESSION_KEY)
    if trail is None:
        return
    for row in kinds_among(session.new):
        note_created(trail, type(row), row.id, {name: getattr(row, name) for name in audited_columns(type(row))})
    for row in kinds_among(session.dirty):
        changed = changes_of(row)
        if changed:
            trail.note(CHANGED, kind_name(type(row)), row.id, changed)


def note_created(trail: Trail, model: type[Table], id: UUID, given: Mapping[str, Any]) -> None:
    """A new row with what it was given."""
    created = {
        name: {"before": None, "after": as_shown(model, name, value)}
        for name, value in given.items()
        if value is not None and name not in BOOKKEEPING
    }
    trail.note(CREATED, kind_name(model), id, created)


def kinds_among(rows: Iterable[object]) -> list[Table]:
    """The rows that are of a kind; what serves them (sessions, pages of text) has no trail of its own."""
    return [row for row in rows if isinstance(row, Table)]


def audited_columns(model: type[Table]) -> list[str]:
    """What a person decides about a row; the core's own bookkeeping is not among it."""
    return [column.key for column in inspect(model).column_attrs if column.key not in BOOKKEEPING]


def changes_of(row: Table) -> dict[str, dict[str, Any]]:
    """The fields that a session has changed, and not back."""
    found = {}
    state, model = inspect(row), type(row)
    for name in audited_columns(model):
        history = state.attrs[name].history
        if history.has_changes():
            before = history.deleted[0] if history.deleted else None
            found[name] = {"before": as_shown(model, name, before), "after": as_shown(model, name, getattr(row, name))}
    return found
