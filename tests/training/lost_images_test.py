"""Images damaged or removed in the middle of an epoch: the run says which, and continues once they are back."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError
from kdas_tf.losses.objective import Objective
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.settings import Fitting, Job, Sampling
from kdas_tf.training.optimizers import Adam
from kdas_tf.training.recipe import Recipe, balanced_source
from kdas_tf.training.steps import TrainingModel

EPOCHS, IDENTITIES, IMAGES = 6, 8, 4


class Colours(keras.Model):
    """Tells people apart by their mean colour."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(IDENTITIES)
        self.dense.build((None, 3))
        self.built = True

    def call(self, images, training=False):
        features = keras.ops.mean(images, (1, 2)) / 255
        return ReIDOutput(features, features, self.dense(features))


class Lose(keras.callbacks.Callback):
    """Does something to all images in the second epoch."""

    def __init__(self, records, action):
        super().__init__()
        self.records, self.action = records, action

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            for record in self.records:
                self.action(record.path)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def write_images(folder):
    folder.mkdir(exist_ok=True)
    numbers, records = np.random.default_rng(0), []
    for identity in range(IDENTITIES):
        for image in range(IMAGES):
            pixels = numbers.integers(0, 100, (16, 8, 3)) + 15 * identity
            path = folder / f"{identity}_c1_{image}.png"
            Image.fromarray(pixels.astype("uint8")).save(path)
            records.append(Record(str(path), identity, 1))
    return records


def run(workdir, records, *callbacks):
    job = Job(workdir=workdir, strategy=tf.distribute.get_strategy(), image_cache_gb=0)
    fitting = Fitting(epochs=EPOCHS, learning_rate=0.01, final_learning_rate=0.01, optimizer=Adam())
    sampling = Sampling(identities_per_batch=2, images_per_identity=2)
    recipe, data = Recipe("train", job, fitting), ReIDData("colours", tuple(records))
    with recipe.making(balanced_source(job, data, image_size=(16, 8), sampling=sampling, epochs=EPOCHS)):
        model = TrainingModel(Colours(), None, Objective(), num_identities=IDENTITIES)
        recipe.compile(model)
    recipe.fit(model, board=recipe.board(), callbacks=callbacks)
    return [np.array(variable) for variable in model.network.variables]


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(60)


def remove(path):
    tf.io.gfile.remove(path)


@pytest.mark.deterministic
@pytest.mark.parametrize("action", [cut, remove])
def test_a_run_whose_images_go_bad_names_one_and_continues_once_they_are_back(action, tmp_path):
    records = write_images(tmp_path / "images")
    whole = run(tmp_path / "whole", records)
    with pytest.raises(UserError, match=r"readable images.*but 32 no longer are; the first, .*0_c1_0.png") as caught:
        run(tmp_path / "parts", records, Lose(records, action))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "parts" / "train" / "checkpoints" / "epoch_1").is_dir()
    write_images(tmp_path / "images")
    for one, other in zip(whole, run(tmp_path / "parts", records), strict=True):
        np.testing.assert_array_equal(one, other)
    names = ("whole", "parts")
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in names]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == EPOCHS
