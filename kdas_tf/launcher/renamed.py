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
_OF_STAGES = {
    "search": (CellSettings, Sampling, Fitting, Stabilizers, Monitoring),
    "train": (CellSettings, Sampling, Fitting),
    "teacher": (Sampling, Fitting),
    "pretrain": (CellSettings, Fitting),
    "summary": (CellSettings,),
    "table": (CellSettings,),
}
_SCOPES = {"table": "train"}


def _of_stages() -> dict[str, str]:
    names = {}
    for stage, classes in _OF_STAGES.items():
        for each in classes:
            for field in dataclasses.fields(each):
                new = f"{_SCOPES.get(stage, stage)}/settings.{each.__name__}.{field.name}"
                names[f"{stage}.run.{field.name}"] = new
        names |= {f"{stage}.run.{name}": flag for name, flag in _LAUNCHER.items()}
    return names


NEW_NAMES = {
    **_of_stages(),
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
    "rerank.RerankedDistances": "rerank.Reranking",
    "verification.Verification": "verification.VerificationSettings",
    "kdas_tf.data.synthetic": "kdas_tf.data.embedded.synthetic",
    "kdas_tf.data.classification": "kdas_tf.data.class_batches",
}
"""{name that a binding or an import had: its name now, or the flag that takes its place}."""


def new_name(text: str) -> str | None:
    """The new name of the first old one in a text, and in which words it is one; None where there is none."""
    words = re.findall(r"[A-Za-z_][\w.]*\w", text)
    found = [
        (old, new) for word in words for old, new in NEW_NAMES.items() if re.match(rf"{re.escape(old)}(?![\w])", word)
    ]
    return f"{found[0][0]} is now {found[0][1]}" if found else None
