from kdas_tf.data.records import Record, ReIDData
from kdas_tf.stages import copies


def data(people):
    photographs = [
        Record(f"{person}_{camera}.jpg", person, camera) for person in range(1, people + 1) for camera in (1, 2)
    ]
    distractor = Record("0.jpg", 0, 3)
    return ReIDData("people", (), tuple(photographs[::2]), (*photographs[1::2], distractor))


def test_few_people_are_evenly_spread_and_search_among_themselves():
    few = copies.few_people(data(9), 3)
    assert [record.identity for record in few.query] == [1, 5, 9]
    assert [(record.identity, record.camera) for record in few.gallery] == [(1, 2), (5, 2), (9, 2)]


def test_more_people_than_there_are_are_all_of_them():
    everybody = data(3)
    assert copies.few_people(everybody, 100).query == everybody.query
    assert copies.few_people(everybody, None) is everybody
    assert copies.few_people(everybody, 0).query == ()
