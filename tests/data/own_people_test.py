import hashlib

import pytest

from kdas_tf.data import own_people
from kdas_tf.data.own_people import Photograph, Splitting, arrange
from kdas_tf.errors import UserError

HALF = Splitting(0.5, 0, "folders.read")


def photographs(people, per_person=4, cameras=2):
    return [
        Photograph(f"/{person}/{number}.jpg", person, str(number % cameras + 1) if cameras else None)
        for person in people
        for number in range(per_person)
    ]


def split_of(data):
    """{person: the splits it is in}."""
    found = {}
    for split in ("train", "query", "gallery"):
        for record in getattr(data, split):
            found.setdefault(record.path.split("/")[1], set()).add(split)
    return found


def test_the_judged_people_are_the_first_of_those_searched_for_by_the_hash_of_seed_and_name():
    people = ["anna", "ben", "chris", "dana", "eve"]
    for seed in (0, 1):
        order = sorted(people, key=lambda person: hashlib.sha256(f"{seed} {person}".encode()).hexdigest())
        data = arrange("x", photographs(people), [], training=True, splitting=HALF._replace(seed=seed))
        judged = {person for person, splits in split_of(data).items() if splits == {"query", "gallery"}}
        trained = {person for person, splits in split_of(data).items() if splits == {"train"}}
        assert judged == set(order[:2])
        assert trained == set(order[2:])
        assert f"5 can be searched for; 2 of them, drawn by folders.read.seed = {seed}" in data.notes[0]


def test_identities_for_training_and_for_judging_are_disjoint_and_the_same_each_time():
    first, again = (arrange("x", photographs(map(str, range(40))), [], training=True, splitting=HALF) for _ in range(2))
    assert first == again
    assert not {r.identity for r in first.train} & {r.identity for r in (*first.query, *first.gallery)}
    assert len(first.train) == 20 * 4
    assert first.matched_queries() == len(first.query) == 20 * 2


def test_another_person_moves_at_most_one_of_the_others():
    people = [str(number) for number in range(40)]
    before = split_of(arrange("x", photographs(people), [], training=True, splitting=HALF))
    after = split_of(arrange("x", photographs([*people, "new"]), [], training=True, splitting=HALF))
    assert sum(after[person] != before[person] for person in people) <= 1


def test_people_who_cannot_be_searched_for_are_trained_on_and_those_with_one_photograph_are_in_the_gallery():
    some = [*photographs("abcd"), *photographs("xy", cameras=1), Photograph("/s/1.jpg", "s", "1")]
    data = arrange("x", some, [], training=True, splitting=HALF)
    splits = split_of(data)
    assert splits["x"] == splits["y"] == {"train"}
    assert splits["s"] == {"gallery"}
    assert sum(split == {"query", "gallery"} for split in splits.values()) == 2
    assert "1 people have one photograph only" in data.notes[1]


@pytest.mark.parametrize(("people", "share"), [("abc", 0.5), ("abcd", 0.0), ("abcdefgh", 0.1)])
def test_with_too_few_people_all_are_trained_on_and_nobody_is_judged(people, share):
    data = arrange("x", photographs(people), [], training=True, splitting=Splitting(share, 0, "folders.read"))
    assert len(data.train) == 4 * len(people)
    assert data.query == data.gallery == ()
    assert "none is judged" in data.notes[0]


def test_one_camera_is_nothing_to_judge_on_but_enough_to_train_on():
    data = arrange("x", photographs("abcdef", cameras=1), [], training=True, splitting=HALF)
    assert (len(data.train), data.query) == (24, ())


def test_four_people_are_two_to_train_on_and_two_to_judge():
    data = arrange("x", photographs("abcd"), [], training=True, splitting=HALF)
    assert sorted(map(sorted, split_of(data).values())) == [["gallery", "query"]] * 2 + [["train"]] * 2


def test_without_cameras_the_data_set_says_that_near_copies_count():
    data = arrange("x", photographs("abcd", cameras=0), [], training=False, splitting=HALF)
    assert not data.cameras_known
    assert data.notes == (own_people.NEAR_COPIES,)
    assert len({record.camera for record in (*data.query, *data.gallery)}) == 16


def test_names_that_may_tell_the_camera_bring_the_pattern_to_give():
    some = [Photograph(f"/{person}/cam{c}_{n}.jpg", person) for person in "ab" for c in (1, 2) for n in (1, 2)]
    (note,) = arrange("x", some, [], training=False, splitting=HALF).notes
    assert "seem to tell 2 cameras (8 of 8 names)" in note
    assert "--gin_param=\"folders.read.camera_pattern='(?i)cam(era)?[-_ ]?(?P<camera>[0-9]+)'\"" in note


@pytest.mark.parametrize(("share", "seed"), [(1.0, 0), (-0.1, 0), (0.5, -1)])
def test_a_share_or_a_seed_out_of_its_range_is_refused(share, seed):
    with pytest.raises(UserError, match=r"folders\.read\.judged_share from 0 to below 1"):
        arrange("x", [], [], training=True, splitting=Splitting(share, seed, "folders.read"))
