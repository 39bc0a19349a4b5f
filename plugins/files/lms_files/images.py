"""Looking at pictures and making small ones; also the first page of a PDF."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin
from PIL.ExifTags import Base

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
TILE_SIDE = 1024


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


def write_picture(image: Image.Image, target: Path, side: int) -> tuple[int, int]:
    """Writes `image` made small as WebP without metadata; returns width and height in pixels."""
    small = made_small(image, side)
    # Turned after it was made small: turning takes a second copy.
    small.getexif()[Base.Orientation] = image.getexif().get(Base.Orientation, 1)
    ImageOps.exif_transpose(small, in_place=True)
    # WebP files get only the metadata that is named here: none.
    small.save(target, "WEBP", quality=WEBP_QUALITY)
    return small.size


def made_small(image: Image.Image, side: int) -> Image.Image:
    """In true colours, with transparency where the picture has it, and no side longer than `side` pixels.

    Tile by tile, since changing the mode of all of it, and averaging what is transparent, takes a second copy.
    """
    image.load()
    mode = "RGBA" if image.has_transparency_data else "RGB"
    width, height = image.size
    # At most twice as large as it will be, so that there is room for the last step, which weighs neighbours.
    factor = -(-max(width, height) // (2 * side))
    tile = factor * max(1, TILE_SIDE // factor)
    reduced = Image.new(mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            part = image.crop((left, top, min(left + tile, width), min(top + tile, height)))
            reduced.paste(part.convert(mode).reduce(factor), (left // factor, top // factor))
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return reduced.resize(size, Image.Resampling.BICUBIC, box=(0, 0, width / factor, height / factor))


def picture_of_image(path: Path, content_type: str, target: Path, side: int, limits: Limits) -> tuple[int, int]:
    """A picture made small, the first frame's if it moves. Raises Refused as `check_image` does."""
    with _open(path, content_type, limits) as image:
        # JPEG can be decoded at an eighth of its size, with a fraction of the memory.
        image.draft("RGB", (side, side))
        return write_picture(image, target, side)
