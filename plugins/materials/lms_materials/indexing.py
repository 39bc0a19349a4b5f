"""Keeping the searchable text right: made anew from the material and its file's text, whatever changed."""

from collections.abc import AsyncIterator
from uuid import UUID

from lms_courses.contracts import CourseCatalog
from lms_files.contracts import FileLibrary, FileReplaced, TextExtracted
from lms_institutions.contracts import InstitutionSettings
from sqlalchemy import Text, bindparam, delete, text
from sqlmodel import col, select

from lms_core.sdk import Context, UnitOfWork, new_id
from lms_materials import kinds, languages
from lms_materials.contracts import MaterialChanged
from lms_materials.models import Material, MaterialText
from lms_materials.written import MAX_BYTES

# A tsvector holds 1 MiB at most, which the words and stems of a whole body fit into. Longer texts, and longer pages of
# documents, are cut.
PIECE_CHARACTERS = 20_000
# Titles weigh most, then what teachers write, then what is in a document. Between the four lies a gap, or a phrase could
# begin in one and end in the next; no question can name what fills it.
INSERT = text(
    """
    INSERT INTO materials_text (id, material_id, page, title, text, language, vector)
    SELECT :id, :material_id, :page, :title, :text, :language,
        setweight(
            to_tsvector('lms_simple', :title) || gap || to_tsvector(CAST(:language AS regconfig), :title), 'A'
        ) || gap || setweight(
            to_tsvector('lms_simple', :text) || gap || to_tsvector(CAST(:language AS regconfig), :text),
            CAST(CASE WHEN :page = 0 THEN 'B' ELSE 'C' END AS "char")
        )
    FROM CAST('¶\\:100' AS tsvector) AS gap
    """
).bindparams(*(bindparam(name, type_=Text()) for name in ("title", "text", "language")))
# In order, so that two who add the same words wait for each other instead of both.
KEEP_WORDS = text(
    """
    INSERT INTO materials_word (word)
    SELECT DISTINCT lexeme FROM materials_text, unnest(vector)
    WHERE material_id = :material_id AND length(lexeme) BETWEEN 3 AND 40 AND lexeme ~ '^[[:alpha:]]+$'
    ORDER BY lexeme
    ON CONFLICT DO NOTHING
    """
)
KEEP_LANGUAGE = text("INSERT INTO materials_language (name) VALUES (:language) ON CONFLICT DO NOTHING")
CHUNK = 500


async def index_changed_material(uow: UnitOfWork, event: MaterialChanged) -> None:
    """The handler for materials."""
    await index(uow, event.material_id)


async def index_extracted_text(uow: UnitOfWork, event: TextExtracted | FileReplaced) -> None:
    """The handler for files whose text was found, or is gone: every material that shows the file, deleted ones too, since they may come back."""
    showing = select(Material.id).where(Material.file_id == event.file_id).order_by(col(Material.id))
    for material_id in (await uow.session.execute(showing)).scalars().all():
        await index(uow, material_id)


async def index(uow: UnitOfWork, material_id: UUID) -> None:
    """Replace a material's searchable text, under its lock."""
    locked = select(Material).where(Material.id == material_id).with_for_update()
    material = (await uow.session.execute(locked)).scalar_one()
    written = written_in(uow.context, material)
    pages = [(0, piece) for piece in ([written] if len(written.encode()) <= MAX_BYTES else pieces(written))]
    if material.file_id is not None:
        pages += [
            (number, piece)
            for number, page in await uow.use(FileLibrary).pages(uow, material.file_id)
            for piece in pieces(page)
        ]
    language = await language_of(uow, material)
    await uow.session.execute(delete(MaterialText).where(col(MaterialText.material_id) == material_id))
    rows = [
        {
            "id": new_id(),
            "material_id": material_id,
            "page": number,
            "title": material.title if number == 0 else "",
            "text": piece,
            "language": language,
        }
        for number, piece in pages
    ]
    await uow.session.execute(INSERT, rows)
    await uow.session.execute(KEEP_LANGUAGE, {"language": language})
    await uow.session.execute(KEEP_WORDS, {"material_id": material_id})


def written_in(context: Context, material: Material) -> str:
    """What teachers wrote: the body, and what a plugin's kind says of its content."""
    if material.content is None:
        return material.body
    known = {kind.name: kind for kind in kinds.all_of(context)}
    # The plugin may be switched off meanwhile.
    return (
        f"{material.body}\n{known[material.kind].text(material.content)}" if material.kind in known else material.body
    )


async def language_of(uow: UnitOfWork, material: Material) -> str:
    """The text search configuration for the language of its institution."""
    institution_id = await uow.use(CourseCatalog).institution_of(uow, material.course_id)
    if institution_id is None:
        # The course is in the bin, and comes back in the language that it had.
        before = select(col(MaterialText.language)).where(col(MaterialText.material_id) == material.id).limit(1)
        return (await uow.session.execute(before)).scalar_one_or_none() or languages.SIMPLE
    return languages.configuration((await uow.use(InstitutionSettings).of(uow, institution_id)).locale)


async def index_all(context: Context, after: UUID | None) -> AsyncIterator[UUID]:
    """Every material's text anew, in the order of ids, each in a transaction of its own; ids of what is done."""
    while True:
        following = select(Material.id).order_by(col(Material.id)).limit(CHUNK)
        if after is not None:
            following = following.where(col(Material.id) > after)
        async with context.unit_of_work() as uow:
            ids = (await uow.session.execute(following)).scalars().all()
        for id in ids:
            await context.retry(lambda uow, id=id: index(uow, id))  # type: ignore[misc]
            yield id
        if not ids:
            return
        after = ids[-1]


def pieces(text: str) -> list[str]:
    """A text in pieces that can be indexed, cut at white space where there is some; at least one piece."""
    found: list[str] = []
    while len(text) > PIECE_CHARACTERS:
        cut = max(text.rfind(" ", 0, PIECE_CHARACTERS), text.rfind("\n", 0, PIECE_CHARACTERS))
        cut = cut if cut > 0 else PIECE_CHARACTERS
        found.append(text[:cut])
        text = text[cut:]
    return [*found, text]
