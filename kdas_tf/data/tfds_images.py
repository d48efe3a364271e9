"""Images of TensorFlow Datasets (TFDS), prepared before, for pre-training; TFDS is imported only here."""

from typing import Any

import tensorflow as tf

from kdas_tf.errors import UserError

TRAIN, VAL = "train", "validation"

# Files read side by side, and images put into random order at a time: of ImageNet, encoded, these are about 0.5 GB.
_FILES_AT_ONCE = 16
_SHUFFLED_AT_ONCE = 4096


class TfdsImages:
    """A data set that TFDS has prepared as TFRecords, with the features `image` and `label`.

    An epoch reads the files in random order, sixteen side by side, and puts their images into random order in blocks of
    4096. The order depends on a seed only.

    Args:
        data_dir: the folder in which TFDS keeps its data sets.
        name: of the data set, such as "imagenet2012" or "imagenet2012:5.1.0"; it has the splits train and validation.

    Raises:
        UserError: TFDS is not installed, or the data set is not there or of another kind.
    """

    def __init__(self, data_dir: str, name: str = "imagenet2012"):
        builder = _builder(data_dir, name)
        splits, features = builder.info.splits, builder.info.features
        if not {TRAIN, VAL} <= set(splits):
            raise UserError(
                f"Expected {name} in {data_dir} to be prepared, with the splits {TRAIN} and {VAL}, but it has "
                f"{', '.join(splits) or 'none'}. Run: tfds build {name.split(':')[0]} --data_dir={data_dir}"
            )
        if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names"):
            raise UserError(f"Expected the features image and label in {name}, but it has {', '.join(features)}.")
        if builder.info.file_format.value != "tfrecord":
            raise UserError(
                f"Expected {name} to be prepared as tfrecord, but it is {builder.info.file_format.value}. Prepare it "
                "again: tfds build --file_format=tfrecord"
            )
        self.features = features
        self.classes: list[str] = features["label"].names
        self.train_images, self.val_images = splits[TRAIN].num_examples, splits[VAL].num_examples
        self.files = {split: [str(path) for path in splits[split].filepaths] for split in (TRAIN, VAL)}
        # Keeps an image as the bytes of its file, which the pipeline decodes.
        self.decoders = {"image": _tfds().decode.SkipDecoding()}

    def training_keys(self, seed: tf.Tensor) -> tf.data.Dataset:
        of_files, of_images = tf.unstack(tf.random.split(seed))
        files = tf.random.experimental.stateless_shuffle(tf.constant(self.files[TRAIN]), of_files)
        images = tf.data.Dataset.from_tensor_slices(files).interleave(
            tf.data.TFRecordDataset, cycle_length=_FILES_AT_ONCE, num_parallel_calls=_FILES_AT_ONCE, deterministic=True
        )

        # Not Dataset.shuffle: its seed must be known before the epoch is.
        def shuffled(number: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.stateless_shuffle(block, tf.random.fold_in(of_images, number))

        return images.batch(_SHUFFLED_AT_ONCE).enumerate().map(shuffled).unbatch()

    def validation_keys(self) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(self.files[VAL])

    def read(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = self.features.deserialize_example(key, decoders=self.decoders)
        return example["image"], tf.cast(example["label"], tf.int32)


def _tfds() -> Any:
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"source='tfds' needs TensorFlow Datasets, which cannot be imported ({error}). Install it: "
            "python -m pip install tensorflow-datasets"
        ) from error
    return tensorflow_datasets


def _builder(data_dir: str, name: str) -> Any:
    tfds = _tfds()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # TFDS raises many kinds, some of its own
        raise UserError(
            f"TensorFlow Datasets cannot read {name} in {data_dir} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}). Correct the name, or prepare it with: tfds build"
        ) from error
