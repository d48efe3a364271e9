import keras
import numpy as np

from kdas_tf import genotype
from kdas_tf.models.networks import Student, Supernet
from kdas_tf.models.teacher import Teacher
from kdas_tf.training.checkpoints import Checkpoints

SMALL = {"image_size": (32, 16), "channels": 4, "cells": 2, "reductions": (1,)}


def everything(network, optimizer):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*network.variables, *optimizer.variables)]


def round_trip(make, folder):
    """Saves a network whose variables are all odd numbers, and restores it into a new one."""
    results = []
    for first in (True, False):
        network, optimizer = make(), keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        checkpoints = Checkpoints(folder, {"network": network, "optimizer": optimizer})
        if first:
            random = np.random.default_rng(0)
            for variable in (*network.variables, *optimizer.variables):
                variable.assign(random.integers(1, 100, variable.shape))
            checkpoints.save(3)
        else:
            assert checkpoints.restore() == 3
        results.append(everything(network, optimizer))
    return results


def test_all_of_a_student_is_restored_its_statistics_too(tmp_path):
    saved, restored = round_trip(lambda: Student(genotype.AUTO_REID, 5, **SMALL), tmp_path)
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_of_a_supernet_is_restored(tmp_path):
    saved, restored = round_trip(lambda: Supernet(5, **SMALL), tmp_path)
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_of_a_teacher_is_restored(tmp_path):
    saved, restored = round_trip(
        lambda: Teacher("MobileNetV2", 5, image_size=(32, 32), backbone_arguments={"alpha": 0.35}), tmp_path
    )
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)
