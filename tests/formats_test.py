import pytest

from kdas_tf import formats
from tests import pictures


@pytest.mark.parametrize(
    ("kind", "name"),
    [("JPEG", "JPEG"), ("PNG", "PNG"), ("BMP", "BMP"), ("GIF", "GIF"), ("TIFF", "TIFF"), ("WEBP", "WebP")],
)
def test_a_format_is_told_by_the_first_bytes(kind, name):
    assert formats.kind_of(pictures.saved(pictures.PIXELS, kind)) == name
    assert formats.kind_of(b"RIFF1234WAVE") is None


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(60_000)}])
def test_the_size_of_a_jpeg_is_that_of_its_frame(options):
    header = formats.check(pictures.saved(pictures.PIXELS, "JPEG", **options))
    assert header == ("JPEG", (12, 6))


def test_what_comes_after_a_picture_does_not_matter():
    assert formats.check(pictures.saved(pictures.PIXELS, "PNG") + b"more").size == (12, 6)


def test_a_progressive_jpeg_of_usual_scans_is_read_and_one_of_too_many_for_its_pixels_is_not():
    usual = pictures.saved(pictures.PIXELS, "JPEG", progressive=True)
    assert usual.count(formats.SCAN) == 10  # libjpeg's jpeg_simple_progression
    assert formats.check(usual).size == (12, 6)
    assert formats.check(pictures.many_scans(100)).size == (12, 6)
    frame = usual.index(b"\xff\xc2") + 5
    large = usual[:frame] + (5792).to_bytes(2, "big") * 2 + usual[frame + 4 :]  # 33.5 megapixels
    assert formats.check(large).size == (5792, 5792)
    large = large[:-2] + b"\xff\xda" * 7 + large[-2:]
    with pytest.raises(formats.Unreadable, match="17 scans, more than the 16 that are read at this size"):
        formats.check(large)


def test_data_of_a_phone_beside_the_picture_are_no_reason_to_refuse_it():
    assert formats.check(pictures.saved(pictures.PIXELS, "JPEG", icc_profile=bytes(600_000))).size == (12, 6)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("written", "read"), [*((i, i) for i in range(1, 9)), (0, 1), (9, 1), (65535, 1)])
def test_the_orientation_is_that_of_the_exif_data(kind, order, written, read):
    assert formats.orientation(pictures.turned_file(kind, written, order=order)) == read


def test_the_orientation_of_a_second_picture_in_the_file_is_not_that_of_the_first():
    plain, turned = pictures.saved(pictures.PIXELS, "JPEG"), pictures.turned_file("JPEG", 6)
    assert formats.orientation(plain + turned) == 1
    assert formats.orientation(turned + plain) == 6
