import keras

from kdas_tf.training.best import BestNetwork


class Counted(BestNetwork):
    """Judges by a list of numbers."""

    BY = "mAP"

    def __init__(self, numbers, **settings):
        super().__init__(keras.Sequential(), **settings)
        self.numbers, self.asked = numbers, 0

    def judge(self):
        self.asked += 1
        return self.numbers


def test_the_last_epoch_is_judged_and_every_second_one_before(tmp_path):
    judged, logs = Counted({}, folder=tmp_path, image_size=(32, 16), epochs=5, every=2), [{} for _ in range(5)]
    asked = []
    for epoch, each in enumerate(logs):
        judged.on_epoch_end(epoch, each)
        asked.append(judged.asked)
    assert asked == [0, 1, 1, 2, 3]
    assert judged.final() == {} and judged.asked == 3


def test_without_numbers_nothing_is_kept_or_logged(tmp_path):
    judged, logs = Counted({}, folder=tmp_path, image_size=(32, 16), epochs=1), {}
    judged.on_epoch_end(0, logs)
    assert logs == {} and judged.best == {} and list(tmp_path.iterdir()) == []
