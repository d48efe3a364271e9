"""Names that bindings had before settings became values, for the message that says the new one."""

import dataclasses
import re

from kdas_tf.settings import CellSettings, Fitting, Monitoring, Sampling, Stabilizers

_LAUNCHER = {
    "seed": "--seed",
    "workdir": "--workdir",
    "strategy": "--num_devices",
    "keep_checkpoints": "launch.run.keep_checkpoints",
    "image_cache_gb": "launch.run.image_cache_gb",
}
_SETTINGS = (
    ("search", "search", (CellSettings, Sampling, Fitting, Stabilizers, Monitoring)),
    ("train", "train", (CellSettings, Sampling, Fitting)),
    ("teacher", "teacher", (Sampling, Fitting)),
    ("pretrain", "pretrain", (CellSettings, Fitting)),
    ("summary", "summary", (CellSettings,)),
    ("table", "train", (CellSettings,)),
)
"""(stage, scope of its bindings, classes that hold what were its arguments)."""

NEW_NAMES = {
    f"{stage}.run.{field.name}": f"{scope}/settings.{owner.__name__}.{field.name}"
    for stage, scope, owners in _SETTINGS
    for owner in owners
    for field in dataclasses.fields(owner)
} | {
    **{f"{stage}.run.{name}": flag for stage, *_ in _SETTINGS for name, flag in _LAUNCHER.items()},
    "search.run.weight_optimizer": "search/settings.Fitting.optimizer",
    "search.run.student_channels": "train/settings.CellSettings.channels",
    "search.run.augmentation": "settings.Sampling.augmentation",
    **{f"{stage}.run.backbone_arguments": "settings.Backbone.arguments" for stage in ("teacher", "summary")},
    **{f"{stage}.run.teacher_image_size": "settings.Backbone.image_size" for stage in ("teacher", "summary")},
    "teacher.run.weights": "settings.Backbone.weights",
    "teacher.run.last_stride": "settings.Backbone.last_stride",
    "evaluate.run.rules": "evaluate.Judgement.rules",
    "evaluate.run.reranked_distances": "evaluate.Judgement.reranking",
    "evaluate.run.verification": "evaluate.Judgement.verification",
    "export.run.batch_sizes": "export.Server.batch_sizes",
    "export.run.base_path": "export.Server.base_path",
    "data.run.render": "data.run.people",
    "synthetic.write_dataset": "synthetic.RenderedPeople",
    "optimizers.momentum_sgd": "optimizers.SGD",
    "optimizers.adam": "optimizers.Adam",
    "schedules.linear_temperature": "schedules.LinearTemperature",
    "rerank.RerankedDistances.lambda_": "rerank.Reranking.weight",
    "rerank.RerankedDistances": "rerank.Reranking",
    "verification.Verification": "verification.VerificationSettings",
    "kdas_tf.data.synthetic": "kdas_tf.data.embedded.synthetic",
    "kdas_tf.data.classification": "kdas_tf.data.class_batches",
}
"""{name that a binding or an import had: its name now, or the flag that takes its place}."""


def new_name(text: str) -> str | None:
    """In words, the new name of the first old name in a text; None for none."""
    for word in re.findall(r"[A-Za-z_][\w.]*\w", text):
        for old, new in NEW_NAMES.items():
            if re.match(rf"{re.escape(old)}(?!\w)", word):
                return f"{old} is now {new}"
    return None
