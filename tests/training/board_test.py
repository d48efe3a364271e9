import pytest
import tensorflow as tf

from kdas_tf.training import pictures
from kdas_tf.training.board import Board


@pytest.fixture
def shown(monkeypatch):
    """The labels of every grid of images that was drawn."""
    grids, draw = [], pictures.image_grid

    def image_grid(images, labels):
        grids.append(labels)
        return draw(images, labels)

    monkeypatch.setattr(pictures, "image_grid", image_grid)
    return grids


def test_the_batch_is_drawn_once_after_the_first_epoch_with_plain_numbers_as_labels(tmp_path, shown):
    batch = {"image": tf.zeros([2, 8, 4, 3]), "label": tf.constant([7, 11])}
    board = Board(tmp_path, batch)
    assert shown == []
    board.on_epoch_end(0, {"total": 1.0, "entropies": [1.0, 2.0]})
    board.on_epoch_end(1, {"total": 0.5, "entropies": [1.0, 1.5]})
    board.on_train_end()
    assert shown == [["7", "11"]]
    events = [
        value.tag
        for file in tmp_path.glob("events*")
        for record in tf.data.TFRecordDataset(str(file))
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    ]
    assert sorted(set(events)) == ["batch", "entropies", "total"]
    assert events.count("total") == 2 and events.count("batch") == 1
