import types

from kdas_tf.space.plain_form import Map, joined


def test_a_map_and_its_relu_are_made_once_and_only_if_somebody_asks():
    made = []
    parts = [Map(lambda i=i: made.append(i) or i, lambda: None) for i in range(3)]
    whole = joined(types.SimpleNamespace(concat=list), parts[:2])
    assert made == []
    assert whole.raw == whole.raw == [0, 1]
    assert made == [0, 1]
