"""For migrations: indexes built and removed beside readers and writers, who do not wait meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op


def create_index_online(name: str, table: str, columns: list[Any], **options: Any) -> None:
    """`op.create_index` with CONCURRENTLY, for a table that has rows.

    It commits what the migration did before it; a migration of indexes alone is the clearest. A try that was broken off
    leaves an index that is not valid and that nobody uses (PostgreSQL's documentation of CREATE INDEX), so that the next
    one begins by removing it.
    """
    with beside_others():
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)
        op.create_index(name, table, columns, postgresql_concurrently=True, if_not_exists=True, **options)


def drop_index_online(name: str, table: str) -> None:
    """`op.drop_index` with CONCURRENTLY; it commits what the migration did before it."""
    with beside_others():
        op.drop_index(name, table_name=table, postgresql_concurrently=True, if_exists=True)


@contextmanager
def beside_others() -> Iterator[None]:
    """Outside of a transaction and of the migrator's lock time-out: it waits for older ones, and nobody for it."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        yield
        op.execute("RESET lock_timeout")
