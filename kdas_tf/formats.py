"""Which files are served: JPEG and PNG by their first bytes, up to a size."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 24
"""Bytes: signature, length and name of the first chunk, width, height (PNG specification, section 11.2.2)."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's RGB values in 0..255 (torchvision's, times 255)."""

MAX_PIXELS = 1 << 25
"""Of an encoded image, height times width: 34 megapixels, 400 MB as float32. A larger one is refused undecoded."""
