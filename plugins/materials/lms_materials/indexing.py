"""Keeping the searchable text right: made anew from the material and its file's text, whatever changed."""

from uuid import UUID

from lms_files.contracts import FileLibrary, TextExtracted
from sqlalchemy import delete, insert
from sqlmodel import col, select

from lms_core.sdk import UnitOfWork
from lms_materials.contracts import MaterialChanged
from lms_materials.models import Material, MaterialText

# A tsvector holds 1 MiB at most, and a snippet is cut from one piece.
PIECE_CHARACTERS = 20_000


async def index_changed_material(uow: UnitOfWork, event: MaterialChanged) -> None:
    """The handler for materials."""
    await index(uow, event.material_id)


async def index_extracted_text(uow: UnitOfWork, event: TextExtracted) -> None:
    """The handler for files: every material that shows the file, deleted ones too, since they may come back."""
    showing = select(Material.id).where(Material.file_id == event.file_id).order_by(col(Material.id))
    for material_id in (await uow.session.execute(showing)).scalars().all():
        await index(uow, material_id)


async def index(uow: UnitOfWork, material_id: UUID) -> None:
    """Replace a material's searchable text, under its lock."""
    locked = select(Material).where(Material.id == material_id).with_for_update()
    material = (await uow.session.execute(locked)).scalar_one()
    pages = [(0, material.body)]
    if material.file_id is not None:
        pages += await uow.use(FileLibrary).pages(uow, material.file_id)
    await uow.session.execute(delete(MaterialText).where(col(MaterialText.material_id) == material_id))
    rows = [
        {"material_id": material_id, "page": number, "title": material.title if number == 0 else "", "text": piece}
        for number, text in pages
        for piece in pieces(text)
    ]
    await uow.session.execute(insert(MaterialText), rows)


def pieces(text: str) -> list[str]:
    """A text in pieces that can be indexed, cut at white space where there is some; at least one piece."""
    found = []
    while len(text) > PIECE_CHARACTERS:
        cut = max(text.rfind(" ", 0, PIECE_CHARACTERS), text.rfind("\n", 0, PIECE_CHARACTERS))
        cut = cut if cut > 0 else PIECE_CHARACTERS
        found.append(text[:cut])
        text = text[cut:]
    return [*found, text]
