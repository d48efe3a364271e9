"""Image files for tests, made on the spot."""

import io
import zlib

import numpy as np
from PIL import Image, ImageOps

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 3), dtype=np.uint8)


def saved(image, kind, **options):
    """The bytes of a file."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def turned_file(kind, orientation, pixels=PIXELS, *, order="<"):
    """A file whose EXIF data, of this byte order, hold an orientation."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E] = "a description longer than four bytes"
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    return saved(pixels, kind, exif=exif, **options)


def as_pillow_shows(content):
    """uint8 `[height, width, 3]`, turned by Pillow."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def many_scans(scans, pixels=PIXELS):
    """A progressive JPEG whose last scan comes again and again, as one that is made to hold up its reader."""
    content = saved(pixels, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * (scans - content.count(b"\xff\xda")) + content[-2:]


def damaged_files():
    """{what is wrong: (content, what the reason says)} of files that must not be read."""
    jpeg, png = saved(PIXELS, "JPEG"), saved(PIXELS, "PNG")
    frame, data = jpeg.index(b"\xff\xc0"), png.index(b"IDAT")
    grey = np.zeros((4, 4), np.float32)
    return {
        "empty": (b"", "an empty file"),
        "text": (b"not an image", "not an image in one of the formats JPEG, PNG, BMP, GIF, TIFF, WebP"),
        "jpeg of its first bytes": (jpeg[:3], "without a picture"),
        "jpeg cut in its header": (jpeg[: frame + 6], "without a picture"),
        "jpeg cut in half": (jpeg[: len(jpeg) // 2], "cut short or damaged"),
        "jpeg of 12 bits": (jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], "12 bits"),
        "arithmetic-coded jpeg": (jpeg[: frame + 1] + b"\xc9" + jpeg[frame + 2 :], "arithmetic-coded"),
        "lossless jpeg": (jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :], "lossless"),
        "jpeg of no rows": (jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :], "without pixels"),
        "jpeg of many scans": (many_scans(400), "400 scans, more than the 100"),
        "jpeg of too many bytes": (jpeg + bytes(2_000_000), "2,000,"),
        "png without its last part": (png[:-12], "a PNG that is cut short"),
        "png with a damaged part": (png[: data + 9] + b"?" + png[data + 10 :], "a PNG with a damaged part (IDAT)"),
        "png of 40,000 x 40,000": (png_of_size(png, 40_000, 40_000), "40000 x 40000 pixels are more than"),
        "png of fewer rows than it says": (png_of_size(png, 6, 13), "a PNG that is cut short or damaged"),
        "bmp cut in half": (saved(PIXELS, "BMP")[:100], "a BMP that is damaged"),
        "webp cut in half": (saved(PIXELS, "WEBP")[:60], "a WebP that is damaged"),
        "tiff of floating-point numbers": (saved(Image.fromarray(grey), "TIFF"), "floating-point numbers"),
    }


def png_of_size(png, width, height):
    """A PNG that says another size, with the right sum of its part."""
    part = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + png[24:29]
    return png[:12] + part + zlib.crc32(part).to_bytes(4, "big") + png[33:]
