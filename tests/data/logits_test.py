import numpy as np
import pytest

from kdas_tf.data.logits import read_logits
from kdas_tf.errors import UserError

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def file(tmp_path):
    def write(**arrays):
        path = tmp_path / "logits.npz"
        np.savez(path, **{"images": NAMES, "logits": LOGITS, **arrays})
        return path

    return write


def test_logits_are_put_into_the_order_of_images_and_identities(file):
    path = file(identities=[11, 7])
    np.testing.assert_array_equal(read_logits(path, ["c.jpg", "a.jpg"], [7, 11]), [[5, 4], [1, 0]])


def test_columns_without_names_are_the_identities_in_ascending_order(file):
    np.testing.assert_array_equal(read_logits(file(), NAMES, [7, 11]), LOGITS)


def test_images_and_identities_that_are_not_trained_on_are_left_out(file):
    path = file(logits=np.arange(12).reshape(3, 4), identities=[2, 3, 5, 7])
    logits = read_logits(path, ["b.jpg"], [3, 7])
    np.testing.assert_array_equal(logits, [[5, 7]])
    assert logits.dtype == np.float32


@pytest.mark.parametrize(
    "arrays, expected",
    [
        ({"images": ["a.jpg", "x.jpg", "y.jpg"]}, r"lacks 2 images, the first b\.jpg, and 0 identities"),
        ({"identities": [7, 8]}, "lacks 0 images, and 1 identities, the first 11"),
        ({"logits": np.where(LOGITS == 3, np.nan, LOGITS)}, r"got shape \(3, 2\) with values that are not finite"),
        ({"logits": np.where(LOGITS == 3, np.inf, LOGITS)}, "not finite"),
        ({"logits": LOGITS.T}, r"\[3 images, 2 identities\], got shape \(2, 3\)\."),
        ({"logits": LOGITS[0]}, r"got shape \(2,\)"),
        ({"identities": [7, 11, 12]}, r"\[3 images, 3 identities\], got shape \(3, 2\)"),
        ({"identities": ["seven", "eleven"]}, "whole numbers as `identities`"),
        ({"images": "a.jpg"}, "1 images, 2 identities"),
        ({"logits": np.array([["a", "b"]] * 3)}, "numbers as `logits`"),
        ({"images": np.array(NAMES, object)}, "cannot be read: Object arrays"),
    ],
)
def test_a_file_of_logits_that_does_not_fit_is_refused(file, arrays, expected):
    with pytest.raises(UserError, match=expected) as caught:
        read_logits(file(**arrays), NAMES, [7, 11])
    assert "logits.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_something_else_than_a_file_of_logits_is_refused(file, tmp_path):
    content = file().read_bytes()
    for name, damaged in {"cut": content[:200], "empty": b"", "text": b"a.jpg 0 1\n"}.items():
        (tmp_path / f"{name}.npz").write_bytes(damaged)
    np.save(tmp_path / "array.npy", LOGITS)
    np.savez(tmp_path / "other.npz", pictures=NAMES, logits=LOGITS)
    for name in ("cut.npz", "empty.npz", "text.npz", "array.npy", "other.npz", "nowhere.npz", "."):
        with pytest.raises(UserError, match=r"to be an \.npz file with `images` and `logits`"):
            read_logits(tmp_path / name, NAMES, [7, 11])
