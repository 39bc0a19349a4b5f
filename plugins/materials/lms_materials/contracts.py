"""What materials tells other plugins."""

from uuid import UUID

from lms_core.sdk import Event

MATERIAL = "materials.material"
"""The kind, for cascades."""


class MaterialChanged(Event, name="materials.material_changed.v1"):
    """A material was added, or what it holds was changed."""

    material_id: UUID
