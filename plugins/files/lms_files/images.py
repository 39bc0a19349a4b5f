"""Looking at pictures and making small ones; also the first page of a PDF."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin

from lms_files.extraction_jobs import Limits, Refused

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/gif": "GIF",
    # By its module, since Pillow loads that one only for a file name's extension.
    "image/webp": WebPImagePlugin.WebPImageFile.format,
}
WEBP_QUALITY = 80


def _open(path: Path, content_type: str, limits: Limits) -> ImageFile:
    """Raises Refused with `image_too_large` before any memory is taken, and with `broken`."""
    # Pillow's reader for WebP takes two canvases to begin with.
    pixels = limits.image_pixels // 2 if content_type == "image/webp" else limits.image_pixels
    # Pillow warns from this number on and refuses from twice as many.
    Image.MAX_IMAGE_PIXELS = pixels // 2
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        return Image.open(path, formats=(FORMATS[content_type],))
    except Image.DecompressionBombError as error:
        raise Refused("image_too_large", str(error)) from error
    except UnidentifiedImageError as error:
        raise Refused("broken", str(error)) from error


def check_image(path: Path, content_type: str, limits: Limits) -> None:
    """Raises Refused with `image_too_large` or `broken`. Pixels aren't decoded, so damage there stays unseen."""
    with _open(path, content_type, limits) as image:
        image.verify()


def write_thumbnail(image: Image.Image, target: Path, limits: Limits) -> tuple[int, int]:
    """Writes `image`, which is changed, as WebP without metadata; returns width and height in pixels."""
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((limits.thumbnail_side, limits.thumbnail_side))
    # Turned after it was made small: turning takes a second copy.
    ImageOps.exif_transpose(image, in_place=True)
    # WebP files get only the metadata that is named here: none.
    image.save(target, "WEBP", quality=WEBP_QUALITY)
    return image.size


def thumbnail_of_image(path: Path, content_type: str, target: Path, limits: Limits) -> tuple[int, int]:
    """A picture's thumbnail, the first frame's if it moves. Raises Refused as `check_image` does."""
    with _open(path, content_type, limits) as image:
        # JPEG can be decoded at an eighth of its size, with a fraction of the memory.
        image.draft("RGB", (limits.thumbnail_side, limits.thumbnail_side))
        return write_thumbnail(image, target, limits)
