import io

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdas_tf import formats


def encode(kind, mode, size, **arguments):
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((*size, 4), np.uint8), "RGBA").convert(mode).save(file, kind, **arguments)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "mode", "arguments"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {"progressive": True}),
        ("JPEG", "CMYK", {"comment": b"\xff\xc0 no frame"}),
        ("JPEG", "RGB", {"exif": b"Exif\x00\x00" + b"\xff\xc0\x00" * 9000, "icc_profile": bytes(70_000)}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
def test_the_size_is_read_from_the_header(kind, mode, arguments):
    content = encode(kind, mode, (300, 7), **arguments)
    assert formats.size_of(content) == (300, 7)
    last = min(n for n in range(len(content)) if formats.size_of(content[:n]))
    assert last < len(content)  # the pixels were not needed


def test_fill_bytes_and_markers_without_a_length_are_passed_over():
    start = b"\xff\xd8" + b"\xff\xff\xff\x01" + b"\xff\xd0" + b"\xff\xe0\x00\x04ab"
    assert formats.size_of(start + b"\xff\xc2\x00\x0b\x08\x01\x00\x00\x80") == (256, 128)
    assert formats.size_of(start + b"\xff\xc4\x00\x0b\x08\x01\x00\x00\x80") is None  # tables, no frame


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", formats.JPEG, formats.PNG, formats.JPEG + b"\xe0\x00\x00", b"\xff\xd8\xff\xff"]), st.binary()
)
def test_whatever_the_bytes_are_there_is_an_answer(start, rest):
    size = formats.size_of(start + rest)
    assert size is None or (len(size) == 2 and min(size) >= 0)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(40), b"BM" + bytes(60), b"\x89PN", formats.PNG + bytes(8)])
def test_other_files_have_no_size(content):
    assert formats.size_of(content) is None
