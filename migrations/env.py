"""The only Alembic environment: it runs one lineage (lms_core/migrate.py says which) on a given connection."""

from alembic import context
from sqlmodel import SQLModel

from lms_core.migrate import Lineage

lineage: Lineage = context.config.attributes["lineage"]


def belongs(name: str | None, kind: str, parents: object) -> bool:
    """Only the lineage's own tables are compared: those with its prefix."""
    return kind != "table" or (name is not None and name.startswith(f"{lineage.name}_"))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=lineage.version_table,
    include_name=belongs,
    include_object=lambda item, name, kind, reflected, compare_to: belongs(name, kind, None),
    compare_server_default=False,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
