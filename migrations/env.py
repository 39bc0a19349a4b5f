"""The only Alembic environment: it runs one lineage (lms_core/migrate.py says which) on a given connection."""

from typing import Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from lms_core.migrate import Lineage

lineage: Lineage = context.config.attributes["lineage"]


def belongs(name: str | None, kind: str, parents: object) -> bool:
    """Only the lineage's own tables are compared: those with its prefix."""
    return kind != "table" or (name is not None and name.startswith(f"{lineage.name}_"))


def plain_types(kind: str, item: object, _: object) -> str | Literal[False]:
    """SQLModel's text type is written as SQLAlchemy's, so that migrations don't depend on SQLModel."""
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=lineage.version_table,
    include_name=belongs,
    include_object=lambda item, name, kind, reflected, compare_to: belongs(name, kind, None),
    render_item=plain_types,
    compare_server_default=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
