"""Runs both signatures of a SavedModel where there is TensorFlow, but neither Keras nor this project.

python fresh_process.py SAVED_MODEL IMAGES.npy FOLDER_OF_FILES OUTPUT.npz
"""

import sys
from pathlib import Path

import numpy as np


def main(folder, images, files, output):
    sys.modules["keras"] = sys.modules["kdas_tf"] = None  # importing them fails
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures
    contents = [path.read_bytes() for path in sorted(Path(files).iterdir())]
    np.savez(
        output,
        names=sorted(signatures),
        embed=signatures["serving_default"](images=tf.constant(np.load(images)))["embedding"].numpy(),
        embed_jpeg=signatures["embed_jpeg"](image_bytes=tf.constant(contents))["embedding"].numpy(),
    )
    loaded = [name for name, module in sys.modules.items() if module is not None]
    assert not [name for name in loaded if name.split(".")[0] in ("keras", "kdas_tf", "tf_keras")]


if __name__ == "__main__":
    main(*sys.argv[1:])
