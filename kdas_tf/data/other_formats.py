"""Reads photographs that are neither JPEG nor PNG, with Pillow; everything else that is read goes through TensorFlow.

TensorFlow takes the indices of a palette for grey values, and knows few kinds of BMP.
"""

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from kdas_tf.formats import MAX_PIXELS, Unreadable, check, check_pixels

_FORMATS = {"BMP": ("BMP", "DIB"), "GIF": ("GIF",), "TIFF": ("TIFF",), "WebP": ("WEBP",)}
# Of more than 8 bits a colour; the rest of Pillow's modes become RGB as they should.
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
_NOT_READ = {"I": "32 bits", "F": "floating-point numbers"}


def pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """Decodes the first picture of a BMP, GIF, TIFF or WebP file: uint8 `[height, width, 3]`, turned by EXIF data.

    Grey becomes RGB, an alpha channel is dropped, and of 16 bits the upper 8 are kept, as TensorFlow does it for PNG.

    Raises:
        Unreadable: it is too large, damaged, or of a kind that is not read.
    """
    kind = check(content).kind
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=_FORMATS[kind]) as image:
            check_pixels(content, (image.height, image.width), max_pixels=MAX_PIXELS)
            if image.mode in _NOT_READ:
                raise Unreadable(f"a {kind} of {_NOT_READ[image.mode]}; those of 8 or 16 bits are read")
            turned = ImageOps.exif_transpose(image)
            if image.mode in _GREY_16:
                grey = np.asarray(turned).astype(np.uint16) >> 8
                return np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=2)
            return np.array(turned.convert("RGB"))
    except Unreadable:
        raise
    # Pillow's decoders raise many kinds (OSError, SyntaxError, ValueError, zlib.error, struct.error).
    except Exception as error:
        raise Unreadable(f"a {kind} that is damaged or of a kind that is not read ({error})") from error
