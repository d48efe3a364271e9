import pytest

from kdas_tf.data import cameras
from kdas_tf.data.cameras import guess


def names(template, people=3, number=2):
    """Names of two photographs in each of two cameras, for each person."""
    return {
        f"person{p}": [template.format(camera=camera, p=p, n=n) for camera in (1, 2) for n in range(number)]
        for p in range(people)
    }


@pytest.mark.parametrize(
    "template",
    [
        "{p:04}_c{camera}s1_{n:06}_00.jpg",  # Market-1501
        "{p:04}_{n:03}_{camera:02}_0303morning_0015_0.jpg",  # MSMT17
        "1_{p:03}_{camera}_0{n}.png",  # CUHK03
        "cam{camera}_{n:04}.jpg",
        "{n}-Camera 0{camera}.jpg",
        "ch0{camera}_2024{n}.jpg",
        "img_c{camera}_{n}.jpg",
        "{n}_c{camera}.jpg",
    ],
)
def test_cameras_of_common_names_are_guessed(template):
    found = guess(names(template))
    assert (found.cameras, found.names) == (2, 12)


def test_cameras_with_words_are_guessed():
    found = guess({person: ["door_1.jpg", "attic_1.jpg", "attic_2.jpg"] for person in "ab"})
    assert (found.cameras, found.names) == (2, 6)
    assert guess({person: ["cam_a1.jpg", "cam_b1.jpg"] for person in "ab"}).cameras == 2


@pytest.mark.parametrize(
    "names_of",
    [
        {"a": ["img1.jpg", "img2.jpg"], "b": ["img1.jpg", "img2.jpg"]},
        {"a": ["a_1.jpg", "a_2.jpg"], "b": ["b_1.jpg", "b_2.jpg"]},  # a name of a person, not a camera
        {"a": ["cam1_1.jpg", "cam1_2.jpg"], "b": ["cam1_3.jpg", "cam1_4.jpg"]},  # one camera tells nothing
        {"a": ["cam1_1.jpg", "x.jpg"], "b": ["cam2_3.jpg", "y.jpg"]},  # too few of them
        {"a": ["cam1_1.jpg", "cam1_2.jpg"], "b": ["cam2_1.jpg", "cam2_2.jpg"]},  # nobody is seen by two
        {},
    ],
)
def test_names_that_tell_no_camera_give_no_guess(names_of):
    assert guess(names_of) is None


def test_no_pattern_holds_what_a_shell_or_a_gin_file_would_read_otherwise():
    assert not any(character in pattern for pattern in cameras.PATTERNS for character in "!\\`'\"$")


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        (["3", "12"], {"12": 12, "3": 3}),
        (["2", "10a"], {"10a": 1, "2": 2}),
        (["1" * 20, "2"], {"1" * 20: 1, "2": 2}),
        (["²", "1"], {"1": 1, "²": 2}),
    ],
)
def test_cameras_are_numbers_or_numbered_in_their_order(written, numbers):
    assert cameras.numbered(written) == numbers
