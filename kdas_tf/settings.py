"""What stages are given: frozen values that check themselves when they are made, before anything runs.

A `.gin` file binds each of them once for all stages, and what differs for one stage in that stage's scope:
`settings.CellSettings.cells = 4`, `search/settings.CellSettings.channels = 8`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from kdas_tf.errors import UserError
from kdas_tf.schedules import cosine

PAPER_REDUCTIONS = (2, 4, 6)
"""Positions of the reduction cells, counted from 0 (section 4.2: the 3rd, 5th and 7th of eight cells)."""


def check_range(
    settings: Any,
    names: str | Iterable[str],
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Checks that numbers among the fields of a settings object are at least `least`, above `above`, below `below`.

    None and what is no number are not looked at; a field may hold several numbers. The object's class gives the name
    in the message; `names` of fields are separated by spaces, or a sequence.

    Raises:
        UserError: a number is out of the range, or not finite.
    """
    bounds = (("at least", least), ("above", above), ("below", below))
    expected = " and ".join(f"{word} {bound}" for word, bound in bounds if bound is not None)
    for name in names.split() if isinstance(names, str) else names:
        value = getattr(settings, name)
        for number in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                continue
            small = (least is not None and number < least) or (above is not None and number <= above)
            if small or (below is not None and number >= below) or not math.isfinite(number):
                kind = type(settings)
                shown = getattr(kind, "SHOWN_AS", f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
                raise UserError(f"Expected {shown}.{name} to be {expected}, got {value!r}. Correct it.", code="range")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What the launcher sets for all stages.

    Args:
        workdir: folder of the run; each stage has a folder of its own in it.
        seed: of everything random.
        strategy: devices, a `tf.distribute.Strategy`.
        keep_checkpoints: how many of the last checkpoints of a stage are kept while it trains; the last one stays.
        image_cache_gb: memory for decoded training images, 10^9 bytes; they are kept if all of them fit.
    """

    SHOWN_AS: ClassVar[str] = "launch.run"

    workdir: Path
    seed: int = 0
    strategy: Any = None
    keep_checkpoints: int = 3
    image_cache_gb: float = 1.0

    def __post_init__(self):
        check_range(self, "seed", least=0, below=2**32)  # NumPy and Keras take none from there on
        check_range(self, "keep_checkpoints", least=1)
        check_range(self, "image_cache_gb", least=0)

    @property
    def image_cache_bytes(self) -> float:
        """The memory for decoded training images in bytes."""
        return self.image_cache_gb * 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSettings:
    """The macro structure of a network of cells, the supernet's or a derived network's.

    Args:
        image_size: (height, width) in pixels.
        channels: C of the first cell; each reduction cell doubles it.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: "inet4" divides the image by 4, "cifar" keeps its size.

    Raises:
        UserError: a number is out of its range, or a reduction is no position of a cell.
    """

    image_size: tuple[int, int]
    channels: int
    cells: int = 8
    reductions: Sequence[int] = PAPER_REDUCTIONS
    stem: Literal["inet4", "cifar"] = "inet4"

    def __post_init__(self):
        check_range(self, "image_size", least=8)
        check_range(self, "channels cells", least=1)
        positions = set(self.reductions)
        if len(positions) < len(self.reductions) or not positions <= set(range(self.cells)):
            raise UserError(
                f"Expected settings.CellSettings.reductions to be different positions from 0 to {self.cells - 1} (of "
                f"{self.cells} cells), got {tuple(self.reductions)}. Correct them.",
                code="range",
            )

    def arguments(self) -> dict[str, Any]:
        """The fields as arguments of a network's constructor."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """The network that is fine-tuned as the teacher.

    Args:
        name: of a constructor in keras.applications.
        weights: "imagenet", a file of weights without top, or None.
        last_stride: stride of a ResNet's last stage, None for the usual 2.
        arguments: more arguments of the constructor.
        image_size: (height, width) in pixels that it sees; None for the size of the photographs.
    """

    name: str = "ResNet50"
    weights: str | None = "imagenet"
    last_stride: int | None = None
    arguments: dict[str, Any] | None = None
    image_size: tuple[int, int] | None = None

    def __post_init__(self):
        check_range(self, "last_stride", least=1)
        check_range(self, "image_size", least=8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How P x K batches are made.

    Args:
        identities_per_batch: P.
        images_per_identity: K.
        augmentation: a `kdas_tf.data.transforms.Augmentation`; None leaves images as they are.
    """

    identities_per_batch: int
    images_per_identity: int
    augmentation: Any = None

    def __post_init__(self):
        check_range(self, "identities_per_batch images_per_identity", least=1)

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.identities_per_batch * self.images_per_identity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """How weights are trained.

    Args:
        epochs: of training.
        learning_rate: of the weights at the start.
        final_learning_rate: of the weights at the end of a cosine.
        optimizer: makes the weights' optimizer from a learning rate.
        label_smoothing: of the labels, where T is 0.
        synchronized_batch_norm: several devices normalise by the whole batch; otherwise each by its own part of it.
    """

    epochs: int
    learning_rate: float
    final_learning_rate: float
    optimizer: Callable[..., Any]
    label_smoothing: float = 0.0
    synchronized_batch_norm: bool = True

    def __post_init__(self):
        check_range(self, "epochs", least=1)
        check_range(self, "learning_rate", above=0)
        check_range(self, "final_learning_rate", least=0)
        check_range(self, "label_smoothing", least=0, below=1)

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate of the weights in an epoch, counted from 0."""
        return cosine(epoch, start=self.learning_rate, end=self.final_learning_rate, epochs=self.epochs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stabilizers:
    """Options that keep a search from collapsing; all are off by default, as in the paper.

    Args:
        alpha_warmup_epochs: epochs at the start in which the alphas rest.
        beta_weight: of the beta-DARTS regulariser of the alphas.
        beta_growth: its weight grows linearly from 0; constant otherwise.
        max_skip: cap on the skip connections of the derived normal cell; None for no cap.
        partial_channels: K of PC-DARTS: one K-th of the channels goes through the mixed operations.
        parameter_budget: trainable parameters that the derived network should have at most; None for any number.
        budget_weight: of the share by which the expected parameters exceed the budget.
    """

    alpha_warmup_epochs: int = 0
    beta_weight: float = 0.0
    beta_growth: bool = True
    max_skip: int | None = None
    partial_channels: int = 1
    parameter_budget: float | None = None
    budget_weight: float = 10.0

    def __post_init__(self):
        check_range(self, "alpha_warmup_epochs beta_weight max_skip budget_weight", least=0)
        check_range(self, "partial_channels", least=1)
        check_range(self, "parameter_budget", above=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What a search draws and measures beside its work; nothing of it changes the result.

    Args:
        picture_every: epochs between two pictures in TensorBoard, and between two measurements of the drop from the
            supernet to the derived network.
        measured_batches: batches of D_val on which that drop is measured.
    """

    picture_every: int = 10
    measured_batches: int = 4

    def __post_init__(self):
        check_range(self, "picture_every measured_batches", least=1)
