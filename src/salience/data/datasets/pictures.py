"""Turn arrays of grey values into the bytes of small PNG files, the form in which tables hold pictures."""

import io

import numpy as np


def grey_png(pixels: np.ndarray) -> bytes:
    """Return a PNG of a uint8 array (height, width)."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=1)
    return file.getvalue()
