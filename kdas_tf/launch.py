"""Runs the stages of a .gin file: `python -m kdas_tf.launch --gin_file=gin/search.gin`.

The only place that knows gin and flags: stages are plain functions with keyword-only arguments.
"""

import contextlib
import importlib
import inspect
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin
from absl import flags

from kdas_tf.errors import UserError
from kdas_tf.settings import check_unchanged, remember

REPOSITORY = Path(__file__).parent.parent
SHARED_AXES = tuple(REPOSITORY / "gin" / axis for axis in ("data", "scale", "teacher"))
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

Stage = Callable[..., None]


def run(
    *,
    stages: Sequence[Stage],
    workdir: str = "runs/search",
    seed: int = 0,
    num_devices: int | None = None,
    logical_cpus: int | None = None,
    mixed_precision: str = "float32",
    dry_run: bool = False,
) -> None:
    """Runs stages in order; one whose result exists is skipped.

    Args:
        stages: `run` functions of modules in `kdas_tf.stages`.
        workdir: folder of the run; each stage has a folder of its own in it.
        seed: of everything random.
        num_devices: number of GPUs (or logical CPUs) to use; all by default.
        logical_cpus: split the CPU into so many logical devices, to try out what several devices do.
        mixed_precision: dtype policy, one of "float32", "mixed_bfloat16", "mixed_float16".
        dry_run: print stages, configuration, parameters and memory, and run nothing.

    Raises:
        UserError: something that was given cannot be used.
    """
    strategy = make_strategy(num_devices, logical_cpus, mixed_precision)
    folder = Path(workdir).expanduser().absolute()
    common = {"workdir": folder, "seed": seed, "strategy": strategy}
    if dry_run:
        for line in describe(stages, common):
            print(line)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.gin").write_text(gin.config_str(), encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Expected --workdir={workdir} to be a folder that can be written to: {error.strerror}."
        ) from error
    history = f"seed {seed}, {mixed_precision}"
    for stage in stages:
        name, module = stage_name(stage), inspect.getmodule(inspect.unwrap(stage))
        result = folder / name / getattr(module, "RESULT")  # noqa: B009 - the module is found at run time
        settings = {**settings_of(stage), "before": history}
        check_unchanged(folder / name, settings)
        history = str(settings)
        if result.exists():
            print(f"{name}: done before, {result}", flush=True)
            continue
        remember(folder / name, settings)
        started = time.monotonic()
        stage(**accepted(stage, common))
        print(f"{name}: finished in {time.monotonic() - started:.0f} s, {result}", flush=True)


def describe(stages: Sequence[Stage], common: dict[str, Any]) -> Iterator[str]:
    """Yields the lines that `--dry_run` prints."""
    yield "Stages: " + ", ".join(stage_name(stage) for stage in stages)
    identities = None
    for stage in stages:
        module = inspect.getmodule(inspect.unwrap(stage))
        arguments = {**bindings_of(stage), **common}
        if hasattr(module, "count_identities"):
            identities = module.count_identities(**arguments)
        plan = getattr(module, "plan", None)
        for line in plan(num_identities=identities, **arguments) if plan else ():
            yield f"  {stage_name(stage)}: {line}"
    yield f"Training identities: {identities}"
    yield "Configuration:"
    yield gin.config_str()


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


def make_strategy(num_devices: int | None, logical_cpus: int | None, mixed_precision: str) -> Any:
    """Sets up TensorFlow and returns the strategy: MirroredStrategy, or the default one for a single device."""
    with quiet():
        import keras
        import tensorflow as tf

        tf.config.list_physical_devices()
    if mixed_precision not in PRECISIONS:
        raise UserError(f"Expected --mixed_precision to be one of {', '.join(PRECISIONS)}, got {mixed_precision!r}.")
    for flag, number in (("num_devices", num_devices), ("logical_cpus", logical_cpus)):
        if number is not None and number < 1:
            raise UserError(f"Expected --{flag} to be at least 1, got {number}.")
    # The layout pass costs seconds at the first step of a supernet and gained nothing (docs/performance.md).
    tf.config.optimizer.set_experimental_options({"layout_optimizer": False})
    if logical_cpus is not None:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    keras.mixed_precision.set_global_policy(mixed_precision)
    devices = tf.config.list_logical_devices("GPU") if logical_cpus is None else []
    devices = devices or tf.config.list_logical_devices("CPU")
    if num_devices is not None and num_devices > len(devices):
        raise UserError(
            f"Expected --num_devices of at most {len(devices)}, the devices of this machine, got {num_devices}. "
            "Logical devices for a trial come from --logical_cpus."
        )
    devices = devices[:num_devices]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def accepted(stage: Stage, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a stage has."""
    parameters = inspect.signature(stage).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def stage_name(stage: Stage) -> str:
    """A stage's name, which is its module's and its folder's."""
    return inspect.unwrap(stage).__module__.rsplit(".", 1)[-1]


# --- gin -------------------------------------------------------------------------------------------------------------


def parse(gin_files: Sequence[str], gin_params: Sequence[str], overrides: dict[str, Any]) -> None:
    """Reads .gin files, then bindings, then what flags override; refuses what nothing would read.

    Args:
        gin_files: paths, relative to the current folder or to the repository.
        gin_params: bindings like `search.run.epochs=5`; names are those that the files import.
        overrides: {binding: value} from flags.

    Raises:
        UserError: a file is missing, a line cannot be parsed, a name is unknown, or a binding is read by nothing.
    """
    gin.add_config_file_search_path(str(REPOSITORY))
    for file in gin_files:
        _parse(lambda file=file: gin.parse_config_file(file), f"--gin_file={file}")
    imports = "\n".join(
        sorted(s.format() for s in gin.config._IMPORTS if not s.module.startswith("__gin__"))
    )
    header = f"from __gin__ import dynamic_registration\n{imports}\n"
    for binding in gin_params:
        _parse(lambda binding=binding: gin.parse_config(header + binding), f"--gin_param={binding}")
    for binding, value in overrides.items():
        line = f"{binding} = {value!r}"
        _parse(lambda line=line: gin.parse_config(header + line), f"the flag behind {line}")
    check_bindings(set(_own_macros(gin_files, gin_params)))


def _parse(action: Callable[[], Any], source: str) -> None:
    try:
        action()
    except UserError:
        raise
    except Exception as error:  # gin raises whatever the imported modules and its parser raise
        message = " ".join(str(error).split()).replace(" In bindings string line", " Line")
        raise UserError(f"{source}: {type(error).__name__}: {message}") from error


def _own_macros(gin_files: Sequence[str], gin_params: Sequence[str]) -> Iterator[str]:
    """Names of the macros that the user set: shared axes set some for stages that are not run."""
    texts = list(gin_params)
    for file in gin_files:
        path = next((p for p in (Path(file), REPOSITORY / file) if p.is_file()), None)
        if path is not None and path.resolve().parent not in SHARED_AXES:
            texts.append(path.read_text(encoding="utf-8"))
    for text in texts:
        yield from re.findall(r"^\s*([A-Za-z_]\w*)\s*=", text, flags=re.MULTILINE)


def check_bindings(own_macros: set[str]) -> None:
    """Refuses bindings that nothing reads and required values that are missing, before anything runs."""
    config = gin.config._CONFIG
    reached = _reachable(config, "kdas_tf.launch.run")
    _check_unread(config, reached, own_macros)
    _check_required(config, reached)


def _reachable(config: dict, start: str) -> set[tuple[str, str]]:
    """(scope, selector) of all bindings that a call of `start` can read, through the references in its arguments."""
    reached: set[tuple[str, str]] = set()
    todo = [("", start)]
    while todo:
        for key in _scopes_of(*todo.pop()):
            if key not in reached and key in config:
                reached.add(key)
                todo += [_key(reference) for reference in _references(config[key])]
    return reached


def _scopes_of(scope: str, selector: str) -> Iterator[tuple[str, str]]:
    """The bindings that a call in a scope reads: those of the scope and of all around it."""
    parts = scope.split("/") if scope else []
    for i in range(len(parts) + 1):
        yield "/".join(parts[:i]), selector


def _references(parameters: dict[str, Any]) -> list[gin.config.ConfigurableReference]:
    return [
        value
        for value in gin.config._iterate_flattened_values(parameters)
        if isinstance(value, gin.config.ConfigurableReference)
    ]


def _key(reference: gin.config.ConfigurableReference) -> tuple[str, str]:
    return "/".join(reference.scoped_selector.split("/")[:-1]), reference.configurable.selector


def _check_unread(config: dict, reached: set[tuple[str, str]], own_macros: set[str]) -> None:
    for key, parameters in config.items():
        scope, selector = key
        if selector == "gin.macro":
            if key not in reached and scope in own_macros:
                raise UserError(f"Nothing reads the macro {scope}. Correct its name or take it out.")
            continue
        names = [f"{scope + '/' if scope else ''}{_short(selector)}.{name}" for name in parameters]
        if key not in reached:
            raise UserError(
                f"Nothing reads the binding {names[0]} in these stages. Correct its name or take it out."
            )
        for name in {"workdir", "seed", "strategy"} & set(parameters):
            if selector != "kdas_tf.launch.run":
                raise UserError(
                    f"{_short(selector)}.{name} is set by the launcher for all stages. Give --{name} instead."
                )


def _check_required(config: dict, reached: set[tuple[str, str]]) -> None:
    for scope, selector in [("", "kdas_tf.launch.run"), *sorted(reached)]:
        for name, value in config.get((scope, selector), {}).items():
            if value is gin.REQUIRED or _is_required_macro(value):
                flag = {"data_dir": "--data_dir=FOLDER or "}.get(name, "")
                binding = scope if selector == "gin.macro" else f"{_short(selector)}.{name}"
                raise UserError(f"A value is required for {binding}. Give {flag}--gin_param='{binding}=VALUE'.")
    if "stages" not in config.get(("", "kdas_tf.launch.run"), {}):
        raise UserError("No stages: no .gin file binds launch.run.stages. Give --gin_file=gin/search.gin, for example.")


def _is_required_macro(value: Any) -> bool:
    return isinstance(value, gin.config.ConfigurableReference) and value.scoped_selector.startswith("gin.REQUIRED")


def _short(selector: str) -> str:
    """`search.run` for `kdas_tf.stages.search.run`: how people write it."""
    return ".".join(selector.split(".")[-2:])


def bindings_of(stage: Stage) -> dict[str, Any]:
    """A stage's arguments as bound, macros and references resolved."""
    return gin.get_bindings(_selector(stage))


def settings_of(stage: Stage) -> dict[str, str]:
    """What decides a stage's result, as text: its bindings and those of the functions that it is given."""
    config = gin.config._CONFIG

    def text(value: Any) -> str:
        if isinstance(value, gin.config.ConfigurableReference):
            scope, selector = _key(value)
            return text(config[scope, selector]["value"]) if selector == "gin.macro" else f"@{value.scoped_selector}"
        return repr(value)

    return {
        f"{scope + '/' if scope else ''}{_short(selector)}.{name}": text(value)
        for scope, selector in sorted(_reachable(config, _selector(stage)))
        if selector != "gin.macro"
        for name, value in config[scope, selector].items()
    }


def _selector(stage: Stage) -> str:
    return f"{inspect.unwrap(stage).__module__}.run"


# --- the command line ------------------------------------------------------------------------------------------------


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags; in a function, because gin imports this module while it also runs as __main__."""
    common = {"flag_values": values}
    flags.DEFINE_multi_string("gin_file", [], "A .gin file; can be given several times, later ones win.", **common)
    flags.DEFINE_multi_string("gin_param", [], "A binding, NAME=VALUE; can be given several times.", **common)
    flags.DEFINE_string("workdir", None, "Folder of the run.", **common)
    flags.DEFINE_string("data_dir", None, "Folder of the data set; without it the embedded one is rendered.", **common)
    flags.DEFINE_integer("seed", None, "Seed of everything random.", lower_bound=0, **common)
    flags.DEFINE_integer("num_devices", None, "Number of devices to use; all by default.", **common)
    flags.DEFINE_integer("logical_cpus", None, "Split the CPU into so many logical devices.", **common)
    flags.DEFINE_enum("mixed_precision", None, PRECISIONS, "Dtype policy.", **common)
    flags.DEFINE_bool("dry_run", None, "Print what would be done, and do nothing.", **common)


def overrides_of(values: flags.FlagValues) -> dict[str, Any]:
    """{binding: value} of the flags that were given."""
    names = ("workdir", "seed", "num_devices", "logical_cpus", "mixed_precision", "dry_run")
    given = {f"launch.run.{name}": values[name].value for name in names if values[name].value is not None}
    if values["data_dir"].value is not None:
        folder = Path(values["data_dir"].value).expanduser()
        if not folder.is_dir():
            raise UserError(f"Expected --data_dir to be the folder of a data set, but {folder} is no folder.")
        given["data.run.data_dir"] = str(folder.absolute())
    return given


def main(arguments: Sequence[str]) -> int:
    """Runs the command line and returns the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors reach people through exceptions
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    values = flags.FlagValues()
    define_flags(values)
    try:
        rest = values(["kdas_tf.launch", *arguments])[1:]
        if rest:
            raise UserError(f"Expected only flags, got {rest[0]!r}. Flags are:\n{values.main_module_help()}")
        if not values["gin_file"].value:
            raise UserError("Expected at least one --gin_file. Try --gin_file=gin/search.gin.")
        with quiet():
            importlib.import_module("tensorflow")
        parse(values["gin_file"].value, values["gin_param"].value, overrides_of(values))
        gin.get_configurable("kdas_tf.launch.run")()
    except (UserError, flags.Error) as error:
        # gin adds the call that an error passed through, which says nothing to people.
        print(f"error: {str(error).split('  In call to configurable')[0].strip()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped. The same command continues after the last finished epoch.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
