"""Runs the stages of a .gin file: `python -m kdas_tf.launch --gin_file=gin/search.gin`.

The only place that knows flags, and with `launcher/bindings.py` the only one that knows gin: stages are plain functions
of values, which `launcher/running.py` runs.
"""

import contextlib
import dataclasses
import gc
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

import kdas_tf
from kdas_tf.errors import PeerLost, Stopped, UserError
from kdas_tf.launcher import bindings, output
from kdas_tf.settings import Job
from kdas_tf.stages.stage import stage_of

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
STOPPED = 75
"""Exit code after SIGTERM, or when another machine is lost: EX_TEMPFAIL of sysexits.h, "run it again"."""


def run(
    *,
    stages: Sequence[Callable[..., None]],
    workdir: str = "runs/search",
    seed: int = 0,
    num_devices: int | None = None,
    logical_cpus: int | None = None,
    mixed_precision: str = "float32",
    deterministic: bool = False,
    keep_checkpoints: int = 3,
    image_cache_gb: float = 1.0,
    intra_op_threads: int | None = None,
    dry_run: bool = False,
) -> None:
    """Runs stages in order; a stage whose result exists is skipped, or done again where its settings may change.

    Args:
        stages: `run` functions of `kdas_tf.stages`, marked by `kdas_tf.stages.stage.stage`.
        workdir: folder of the run; each stage has a folder of its own in it.
        seed: of everything random.
        num_devices: number of GPUs (or logical CPUs) to use; all by default.
        logical_cpus: split the CPU into so many logical devices, to try out what several devices do.
        mixed_precision: dtype policy, one of "float32", "mixed_bfloat16", "mixed_float16".
        deterministic: the same command gives the same bits, stopped and continued or not; slower.
        keep_checkpoints: as in `Job`.
        image_cache_gb: memory for decoded training images, 10^9 bytes: if all of a stage's fit (height * width * 12
            bytes each), they are decoded once and not in every epoch. The batches are the same.
        intra_op_threads: CPU threads that share one operation; 0 for TensorFlow's choice. By default 1 where a stage
            trains a network of cells on at most four cores.
        dry_run: print stages, configuration, parameters and memory, and run nothing.

    Raises:
        UserError: something that was given cannot be used.
    """
    known = []
    for function in stages:
        stage = stage_of(function)
        if stage is None:
            raise UserError(f"Expected launch.run.stages to list stages, such as [@search.run], got {function!r}.")
        known.append(stage)
    if mixed_precision not in PRECISIONS:
        raise UserError(f"Expected --mixed_precision to be one of {', '.join(PRECISIONS)}, got {mixed_precision!r}.")
    if intra_op_threads is not None and intra_op_threads < 0:
        raise UserError(f"Expected launch.run.intra_op_threads of at least 0, got {intra_op_threads}.")
    options: dict[str, Any] = {"keep_checkpoints": keep_checkpoints, "image_cache_gb": image_cache_gb}
    job = Job(workdir=_usable_by_tensorflow(path_of("--workdir", workdir)), seed=seed, **options)
    with quiet():
        import keras
        import tensorflow

        from kdas_tf.launcher import running
        from kdas_tf.training.devices import cluster, strategy, workers

        tensorflow.config.list_physical_devices()
    _forget_keras_json(keras.config)
    machines = None if dry_run else cluster.cluster_of(os.environ)
    if machines:
        running.check_several_machines(known, mixed_precision)
    with workers.noticing_lost_workers(machines is not None):
        if intra_op_threads is None:
            intra_op_threads = strategy.threads_for_cells() if any(stage.trains_cells for stage in known) else 0
        devices = strategy.make_strategy(
            num_devices, logical_cpus, mixed_precision, deterministic, machines, intra_op_threads
        )
        job = dataclasses.replace(job, strategy=devices)
        launcher = {"seed": str(seed), "precision": mixed_precision, "deterministic": str(deterministic)}
        steps = running.steps_of(known)
        if dry_run:
            for line in running.describe(steps, job):
                print(line)
        else:
            running.run_all(steps, job, launcher)


def _forget_keras_json(config: Any) -> None:
    """Sets what a user's keras.json may have changed: a result is decided by the command alone."""
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what TensorFlow's C++ side prints when it starts: it ignores its own log level there."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Looks for no garbage among what is imported, now and later: a million objects, all of which stay."""
    if "tensorflow" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; in a function, because gin imports this module while it also runs as __main__."""
    flags.DEFINE_bool("help", False, "List the flags.", short_name="h", flag_values=values)
    flags.DEFINE_bool("version", False, "Print the version.", flag_values=values)
    flags.DEFINE_multi_string("gin_file", [], "A .gin file; several may be given, later ones win.", flag_values=values)
    flags.DEFINE_multi_string("gin_param", [], "A binding, NAME=VALUE; several may be given.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "Folder of the data set; rendered people without it.", flag_values=values)
    what = "Network to judge or export: folder of a stage or of a SavedModel, or (to judge) an .onnx or .tflite file."
    flags.DEFINE_string("model", None, what, flag_values=values)
    flags.DEFINE_string("embeddings", None, "File of embeddings to judge, an .npz.", flag_values=values)
    what = "Seed of everything random."
    flags.DEFINE_integer("seed", None, what, lower_bound=0, upper_bound=2**32 - 1, flag_values=values)
    flags.DEFINE_integer("num_devices", None, "Number of devices to use; all by default.", flag_values=values)
    flags.DEFINE_integer("logical_cpus", None, "Split the CPU into so many logical devices.", flag_values=values)
    flags.DEFINE_enum("mixed_precision", None, PRECISIONS, "Dtype policy.", flag_values=values)
    what = "Give the same bits for the same command, stopped and continued or not."
    flags.DEFINE_bool("deterministic", None, what, flag_values=values)
    flags.DEFINE_bool("dry_run", None, "Print what would be done, and do nothing.", flag_values=values)


def overrides_of(values: flags.FlagValues) -> dict[str, Any]:
    """{binding: value} of the flags that were given and that the launcher itself reads."""
    names = ("workdir", "seed", "num_devices", "logical_cpus", "mixed_precision", "deterministic", "dry_run")
    return {f"launch.run.{name}": values[name].value for name in names if values[name].value is not None}


def stage_arguments_of(values: flags.FlagValues) -> dict[str, str]:
    """{argument: absolute path} of the flags that were given and that stages read.

    Raises:
        UserError: there is no such file or folder.
    """
    kinds = {
        "data_dir": ("the folder of a data set", Path.is_dir, "is no folder"),
        "model": ("the folder of a network, or an exported file", Path.exists, "does not exist"),
        "embeddings": ("a file", Path.is_file, "is no file"),
    }
    given = {}
    for name, (kind, fits, otherwise) in kinds.items():
        value: str | None = values[name].value
        if value is not None:
            path = path_of(f"--{name}", value)
            if not fits(path):
                raise UserError(f"Expected --{name} to be {kind}, but {path} {otherwise}.", code="flag")
            given[name] = str(path)
    return given


def path_of(flag: str, text: str) -> Path:
    """The absolute path that a flag gives.

    Raises:
        UserError: it can be none. An empty one, of a variable that is not set, would be the current folder.
    """
    try:
        if not text:
            raise ValueError("it is empty")
        path = Path(text).expanduser().absolute()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
        return path
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~somebody who is not there
        shown = text if len(text) < 60 else f"{text[:60]}..."
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Expected {flag} to be a path that can be used, got {shown!r}: {reason}.", code="flag"
        ) from error


def _usable_by_tensorflow(workdir: Path) -> Path:
    wrong = sorted(set("*?[]\\") & set(str(workdir)))
    if wrong:
        raise UserError(
            f"Expected --workdir to be a path without {' and '.join(wrong)}, got {workdir}: TensorFlow takes it for a "
            "pattern where it reads checkpoints and exports. Choose another folder.",
            code="flag",
        )
    return workdir


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Ends with `Stopped` on SIGTERM; stages that train take over, to save first (`kdas_tf.training.stopping`)."""

    def stop(number, frame):
        raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def parse_and_run(arguments: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
        UserError, flags.Error: a mistake in what was given.
        Stopped: SIGTERM.
    """
    values = flags.FlagValues()
    define_flags(values)
    rest = values(["kdas_tf.launch", *arguments])[1:]
    if rest:
        raise UserError(f"Expected only flags, got {rest[0]!r}. --help lists them.", code="flag")
    if values["help"].value:
        print(f"{(__doc__ or '').partition(chr(10))[0]}\n{values.get_help()}")
        return
    if values["version"].value:
        print(f"kdas_tf {kdas_tf.__version__}")
        return
    gin_files, gin_params = values["gin_file"].value or [], values["gin_param"].value or []
    if not gin_files:
        raise UserError("Expected at least one --gin_file. Try --gin_file=gin/search.gin.", code="flag")
    with importing():
        with quiet():
            import tensorflow  # noqa: F401
        bindings.parse(gin_files, gin_params, overrides_of(values), stage_arguments_of(values))
    bindings.call_launch()


def main(arguments: Sequence[str]) -> int:
    """Runs the command line and returns the exit code: 0; 2 for a user's mistake; 75 to start again; 130 for Ctrl-C."""
    with output.lenient():
        return _main(arguments)


def _main(arguments: Sequence[str]) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors reach people through exceptions
    # Notebooks set one that is not installed here, and a keras.json may name another: both are read at the import.
    os.environ["MPLBACKEND"], os.environ["KERAS_BACKEND"] = "agg", "tensorflow"
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # gin logs every folder in which an included file is not, before it finds it in another one.
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("Path not found"))
    try:
        with stopping_on_sigterm():
            parse_and_run(arguments)
    except (UserError, flags.Error) as error:
        # gin adds the call that an error passed through, which says nothing to people.
        print(f"error: {str(error).split('  In call to configurable')[0].strip()}", file=sys.stderr)
        return 2
    except SystemError as error:
        cause = signal_behind(error)
        if cause is None:
            raise
        return ended_by(cause, arguments)
    except (Stopped, KeyboardInterrupt) as error:
        return ended_by(error, arguments)
    return 0


def signal_behind(error: BaseException | None) -> BaseException | None:
    """What a signal has raised inside a call of C code, which Python then reports as a `SystemError`."""
    while error is not None and not isinstance(error, (Stopped, KeyboardInterrupt)):
        error = error.__cause__ or error.__context__
    return error


def ended_by(error: BaseException, arguments: Sequence[str]) -> int:
    """Says why the run has ended and how it continues; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        print("\nstopped. The same command continues after the last checkpoint.", file=sys.stderr)
        return 130
    again = f"python -m kdas_tf.launch {shlex.join(arguments)}"
    if isinstance(error, PeerLost):
        print(f"another machine of the job was lost ({error}). To continue, on all: {again}", file=sys.stderr)
    else:
        print(f"stopped by SIGTERM. To continue: {again}", file=sys.stderr)
    return STOPPED


def command() -> NoReturn:
    """The console command `kdas_tf`."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    command()
