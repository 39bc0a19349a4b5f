"""Search by stems in the institution's language, without accents, and by similar words.

Existing text keeps its words as they are until `lms materials reindex` has run.
"""

import sqlalchemy as sa
from alembic import op

revision = "materials_0004"
down_revision = "materials_0003"
branch_labels = None
depends_on = None
phase = "maintenance"

STEMMED = (
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "indonesian",
    "italian",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "turkish",
)


def upgrade() -> None:
    # Both are trusted: the database's owner may create them.
    op.execute("CREATE EXTENSION IF NOT EXISTS unaccent")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    for name in ("simple", *STEMMED):
        stem = "simple" if name == "simple" else f"{name}_stem"
        op.execute(f"CREATE TEXT SEARCH CONFIGURATION lms_{name} (COPY = {name})")
        op.execute(
            f"ALTER TEXT SEARCH CONFIGURATION lms_{name} ALTER MAPPING FOR asciiword, asciihword, hword_asciipart, "
            f"word, hword, hword_part WITH unaccent, {stem}"
        )
    op.execute("ALTER TABLE materials_text ALTER COLUMN vector DROP EXPRESSION")
    op.add_column(
        "materials_text", sa.Column("language", sa.String(length=63), server_default="lms_simple", nullable=False)
    )
    op.drop_index("ix_materials_text_vector", table_name="materials_text")
    for name, where in (("written", "page = 0"), ("pages", "page > 0")):
        op.create_index(
            f"ix_materials_text_{name}",
            "materials_text",
            ["vector"],
            unique=False,
            postgresql_using="gin",
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "materials_language", sa.Column("name", sa.String(length=63), nullable=False), sa.PrimaryKeyConstraint("name")
    )
    op.execute("INSERT INTO materials_language (name) VALUES ('lms_simple')")
    op.create_table(
        "materials_word", sa.Column("word", sa.String(length=40), nullable=False), sa.PrimaryKeyConstraint("word")
    )
    op.create_index(
        "ix_materials_word_trigrams",
        "materials_word",
        ["word"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"word": "gin_trgm_ops"},
    )


def downgrade() -> None:
    op.drop_table("materials_word")
    op.drop_table("materials_language")
    op.drop_column("materials_text", "language")
    op.drop_column("materials_text", "vector")
    op.execute(
        "ALTER TABLE materials_text ADD COLUMN vector tsvector NOT NULL GENERATED ALWAYS AS "
        "(setweight(to_tsvector('simple', title), 'A') || setweight(to_tsvector('simple', text), 'C')) STORED"
    )
    op.create_index("ix_materials_text_vector", "materials_text", ["vector"], unique=False, postgresql_using="gin")
    for name in ("simple", *STEMMED):
        op.execute(f"DROP TEXT SEARCH CONFIGURATION lms_{name}")
    # The extensions stay: others may use them too.
