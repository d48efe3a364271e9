import numpy as np
import pytest

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models import baselines
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.teacher_network import Teacher

SMALL = {"image_size": (32, 32), "channels": 4, "cells": 2, "reductions": (1,), "backbone_arguments": {"alpha": 0.35}}


@pytest.mark.parametrize("name", [*baselines.NAMES, "teacher:MobileNetV2"])
def test_every_name_makes_a_network_of_the_same_interface(name):
    network = baselines.make(name, 5, **SMALL)
    output = network(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32"))
    assert isinstance(output, ReIDOutput)
    assert output.features.shape == output.embedding.shape
    assert output.logits.shape == (2, 5)
    assert network.head.num_identities == 5


def test_names_are_the_rows_of_table_1():
    assert baselines.NAMES == ("ResNet18", "ResNet34", "ResNet50", "DARTS_V2", "GDAS_V1", "AUTO_REID")


def test_names_make_what_they_say():
    resnet = baselines.make("ResNet18", 5, last_stride=1, **SMALL)
    assert isinstance(resnet, ResNet) and (resnet.depth, resnet.last_stride) == (18, 1)
    options = {"stem": "cifar", "drop_path": 0.2}
    student = baselines.make("GDAS_V1", 5, **options, **SMALL)
    assert isinstance(student, Student) and student.genotype == genotype.GDAS_V1
    expected = {"image_size": (32, 32), "channels": 4, "cells": 2, "reductions": (1,), **options}
    assert {name: student.get_config()[name] for name in expected} == expected
    teacher = baselines.make("teacher:MobileNetV2", 5, **SMALL)
    assert isinstance(teacher, Teacher) and teacher.config["backbone_arguments"] == {"alpha": 0.35}


def test_a_genotype_is_read_from_a_file(tmp_path):
    found = genotype.random_genotype(3)
    genotype.save(tmp_path / "genotype.json", found)
    assert baselines.make(str(tmp_path / "genotype.json"), 5, **SMALL).genotype == found


@pytest.mark.parametrize("name", ["ResNet101", "nowhere/genotype.json", "MobileNetV2", ""])
def test_an_unknown_architecture_is_refused_naming_the_known_ones(name):
    with pytest.raises(UserError, match=f"ResNet18.*AUTO_REID, a genotype.json file, or teacher:NAME.*got '{name}'"):
        baselines.make(name, 5, **SMALL)
