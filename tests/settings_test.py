import dataclasses
import math
from pathlib import Path

import pytest

from kdas_tf import settings
from kdas_tf.errors import UserError

JOB = settings.Job(workdir=Path("run"))
NETWORK = settings.CellSettings(image_size=(384, 128), channels=32)
SAMPLING = settings.Sampling(identities_per_batch=8, images_per_identity=2)
FITTING = settings.Fitting(epochs=200, learning_rate=0.1, final_learning_rate=0.001, optimizer=list)
STABILIZERS, MONITORING = settings.Stabilizers(), settings.Monitoring()


@pytest.mark.parametrize(
    ("given", "field", "allowed", "refused"),
    [
        (JOB, "seed", 2**32 - 1, 2**32),
        (JOB, "seed", 0, -1),
        (JOB, "keep_checkpoints", 1, 0),
        (JOB, "image_cache_gb", 0, -0.1),
        (NETWORK, "image_size", (8, 8), (384, 7)),
        (NETWORK, "channels", 1, 0),
        (NETWORK, "reductions", (0, 7), (2, 8)),
        (NETWORK, "reductions", (), (2, 2)),
        (settings.Backbone(), "last_stride", None, 0),
        (settings.Backbone(), "image_size", (8, 8), (7, 8)),
        (SAMPLING, "identities_per_batch", 1, 0),
        (SAMPLING, "images_per_identity", 1, 0),
        (FITTING, "epochs", 1, 0),
        (FITTING, "learning_rate", 1e-9, 0.0),
        (FITTING, "learning_rate", 1e9, math.inf),
        (FITTING, "final_learning_rate", 0, math.nan),
        (FITTING, "label_smoothing", 0, 1.0),
        (STABILIZERS, "alpha_warmup_epochs", 0, -1),
        (STABILIZERS, "beta_weight", 0, -0.5),
        (STABILIZERS, "max_skip", 0, -1),
        (STABILIZERS, "max_skip", None, -1),
        (STABILIZERS, "partial_channels", 1, 0),
        (STABILIZERS, "parameter_budget", 1e-9, 0),
        (STABILIZERS, "budget_weight", 0, -1),
        (MONITORING, "picture_every", 1, 0),
        (MONITORING, "measured_batches", 1, 0),
    ],
)
def test_a_number_out_of_its_range_is_refused_when_the_settings_are_made(given, field, allowed, refused):
    dataclasses.replace(given, **{field: allowed})
    with pytest.raises(UserError) as caught:
        dataclasses.replace(given, **{field: refused})
    binding = f"launch.run.{field}" if given is JOB else f"settings.{type(given).__name__}.{field}"
    assert caught.value.code == "range" and f"Expected {binding} to be " in str(caught.value)


def test_the_line_says_the_range_and_what_came():
    with pytest.raises(UserError) as caught:
        dataclasses.replace(FITTING, label_smoothing=1.0)
    binding = "settings.Fitting.label_smoothing"
    assert str(caught.value) == f"Expected {binding} to be at least 0 and below 1, got 1.0. Correct it."


def test_the_learning_rate_falls_along_a_cosine():
    assert [FITTING.learning_rate_at(epoch) for epoch in (0, 100, 200)] == pytest.approx([0.1, 0.0505, 0.001])
