"""Decode pictures, with limits, into plain RGB."""

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from salience.core.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 50_000_000


def is_image_object(value: Any) -> bool:
    """Tell whether a value holds a picture itself: bytes, a PIL image, an (H, W[, C]) array, a bytes dictionary."""
    if isinstance(value, bytes | bytearray):
        return True
    if isinstance(value, dict):
        return "bytes" in value and ("path" in value or len(value) == 1)
    if isinstance(value, np.ndarray):
        return value.ndim in (2, 3) and value.dtype == np.uint8
    return hasattr(value, "convert") and hasattr(value, "getbbox")


def is_image_path(text: str) -> bool:
    """Tell whether a text ends like the name of a picture; addresses on the web are not fetched and do not count."""
    return text[-5:].lower().endswith(EXTENSIONS) and "://" not in text


def load_image(value: Any, where: str = "") -> "Image":
    """Decode a picture to RGB.

    Transparency is laid on white, orientation tags are obeyed, grey images of 16 or 32 bits are stretched to 8.

    Args:
        value: a path, the bytes of a file, a PIL image, or a uint8 array (height, width[, channel]).
        where: the place in the user's data, for messages.

    Raises:
        DataError: the file is absent (SAL-D040), damaged or not a picture (SAL-D041), or holds more than
            :data:`MAX_PIXELS` pixels (SAL-D042).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _to_rgb(_checked_size(_open(value, where), where))
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                "An image cannot be decoded",
                f"{where or 'image'}: {_name(value)} ({error or type(error).__name__}).",
                "Replace the file, it is truncated or not a picture; or remove the row.",
                code="SAL-D041",
            ) from None


def _name(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else f"{type(value).__name__}"


def _open(value: Any, where: str) -> "Image":
    from PIL import Image

    if isinstance(value, np.ndarray):
        return Image.fromarray(np.ascontiguousarray(value[..., 0] if value.shape[2:] == (1,) else value))
    if isinstance(value, bytes | bytearray):
        return Image.open(io.BytesIO(value))
    if isinstance(value, str | Path):
        if not os.path.isfile(value):
            raise missing(str(value), where)
        return Image.open(io.BytesIO(Path(value).read_bytes()))
    if hasattr(value, "convert"):
        return value
    raise DataError(
        "An image has an unknown form",
        f"{where or 'image'}: {type(value).__name__}.",
        "Give a path, bytes, a PIL image or a uint8 array (height, width, channel).",
        code="SAL-D041",
    )


def missing(path: str, where: str) -> DataError:
    """Return the error that says that a picture's file is absent."""
    return DataError(
        "An image file is missing",
        f"{where or 'image'}: {path}.",
        "Mend the path (relative paths start at the table's folder), or remove the row.",
        code="SAL-D040",
    )


def _checked_size(image: "Image", where: str) -> "Image":
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            "An image is too large",
            f"{where or 'image'}: {width} × {height} pixels, the limit is {MAX_PIXELS:,}.",
            "Shrink the image.",
            code="SAL-D042",
        )
    if width * height == 0:
        raise ValueError("it has no pixels")
    return image


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        return _stretched(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _stretched(image: "Image") -> "Image":
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    scaled = np.nan_to_num((values - low) / ((high - low) or 1.0) * 255)
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")


_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6", b"RIFF")


def looks_encoded(value: Any) -> bool:
    """Tell whether bytes begin like a picture's file."""
    return isinstance(value, bytes | bytearray) and bytes(value[:8]).startswith(_MAGIC)


def looks_whole(value: Any) -> bool:
    """Tell whether an encoded picture seems complete, at the price of reading its two ends.

    Args:
        value: a path or the bytes of a file; other values are held to be whole.
    """
    if isinstance(value, bytes | bytearray):
        return _ends_look_whole(bytes(value[:16]), bytes(value[-64:]), len(value))
    return _ends_look_whole(*_ends(value)) if isinstance(value, str | Path) else True


def _ends(path: str | Path) -> tuple[bytes, bytes, int]:
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64))
            return head, file.read(), size
    except OSError:
        return b"", b"", 0


def _ends_look_whole(head: bytes, tail: bytes, size: int) -> bool:
    if head.startswith(_MAGIC[0]):
        return tail.endswith(b"IEND\xaeB`\x82")
    if head.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" in tail
    if head.startswith(b"GIF8"):
        return tail.endswith(b";")
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") <= size
    return head.startswith(_MAGIC)
