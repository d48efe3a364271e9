"""What the launcher does with gin: reads .gin files, refuses what nothing would read, describes what is bound."""

import collections.abc
import contextlib
import dataclasses
import functools
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gin import config as gin
from kdas_tf.errors import UserError
from kdas_tf.launcher import renamed
from kdas_tf.stages.stage import Stage, stage_of

_PACKAGE = Path(__file__).parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
"""The folder that holds gin/: of an installed package its own (setup.py), else the repository."""
SHARED_AXES = tuple(CONFIGS / "gin" / axis for axis in ("data", "scale", "teacher"))
LAUNCH = "kdas_tf.launch.run"

Key = tuple[str, str]
"""(scope, selector) of a configurable, as gin keeps its bindings."""


def parse(
    gin_files: Sequence[str],
    gin_params: Sequence[str],
    overrides: Mapping[str, Any],
    stage_arguments: Mapping[str, Any] | None = None,
) -> None:
    """Reads .gin files, then bindings, then what flags override; refuses what nothing would read.

    Args:
        gin_files: paths, relative to the current folder or to `CONFIGS`. Files that say which stages are run are
            read first, since they include defaults; so a scale, a data set or a teacher wins wherever it stands.
        gin_params: bindings like `search.run.epochs=5`; names are those that the files import.
        overrides: {binding: value} from flags.
        stage_arguments: {argument: value} from flags; bound for the first stage that has the argument.

    Raises:
        UserError: a file is missing, a line cannot be parsed, a name is unknown, or a binding is read by nothing.
    """
    gin.add_config_file_search_path(str(CONFIGS))
    gin._FILE_READERS[:] = [(_Opened(), os.path.isfile)]
    for file in sorted(gin_files, key=lambda file: not _binds_stages(file)):
        _parse(functools.partial(gin.parse_config_file, file), f"--gin_file={file}")
    imports = "\n".join(sorted(s.format() for s in gin._IMPORTS if not s.module.startswith("__gin__")))
    header = f"from __gin__ import dynamic_registration\n{imports}\n"
    from_files = {key: dict(parameters) for key, parameters in gin._CONFIG.items()}
    for binding in gin_params:
        _parse(functools.partial(gin.parse_config, header + binding), f"--gin_param={binding}")
    if "stages" not in gin._CONFIG.get(("", LAUNCH), {}):
        raise _Wrong("No stages: no .gin file binds launch.run.stages. Give --gin_file=gin/search.gin, for example.")
    read = _reachable()  # a flag may take the place of a macro: that one was read all the same
    for binding, value in {**overrides, **_for_stages(stage_arguments or {})}.items():
        line = f"{binding} = {value!r}"
        _parse(functools.partial(gin.parse_config, header + line), f"the flag behind {line}")
    reached = _reachable()
    _check_required(reached)
    _check_types(reached)
    _check_overridden(from_files)
    _check_unread(reached, {name for name in _own_macros(gin_files, gin_params) if (name, "gin.macro") not in read})


def _binds_stages(file: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a .gin file, or one that it includes, says which stages are run."""
    path = _place_of(file)
    if path is None or file in seen:
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    if re.search(r"^\s*launch\.run\.stages\s*=", text, flags=re.MULTILINE):
        return True
    included = re.findall(r"^\s*include\s+[\"']([^\"']+)[\"']", text, flags=re.MULTILINE)
    return any(_binds_stages(each, seen | {file}) for each in included)


def _place_of(file: str) -> Path | None:
    """Where gin finds a .gin file; None where it does not."""
    return next((place for place in (Path(file), CONFIGS / file) if place.is_file()), None)


class _Opened:
    """Opens .gin files for gin; refuses a file that is being read already, which gin would read 1,000 times."""

    def __init__(self):
        self._open: list[str] = []

    @contextlib.contextmanager
    def __call__(self, path: str) -> Iterator[typing.TextIO]:
        real = os.path.realpath(path)
        if real in self._open:
            raise UserError(
                f"{path} includes itself, by way of {' and '.join(self._open)}. Take that include out.", code="binding"
            )
        self._open.append(real)
        try:
            with open(path, encoding="utf-8") as file:
                yield file
        finally:
            self._open.pop()


def _for_stages(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """{binding: value} for the stages that have the arguments."""
    found = {}
    stages = [reference.configurable for reference in _references({"": gin._CONFIG["", LAUNCH]["stages"]})]
    for name, value in arguments.items():
        readers = [stage.selector for stage in stages if name in inspect.signature(stage.wrapped).parameters]
        if not readers:
            names = ", ".join(stage.selector.split(".")[-2] for stage in stages)
            raise UserError(f"--{name} is given, but of the stages ({names}) none reads it. Take it out.", code="flag")
        found[f"{_short(readers[0])}.{name}"] = value  # later stages take what the first one has read
    return found


def _parse(action: Callable[[], Any], source: str) -> None:
    try:
        action()
    except UserError as error:
        raise UserError(str(error).splitlines()[0], code=error.code) from error  # gin adds a line for each file
    except Exception as error:  # gin raises whatever the imported modules and its parser raise
        message = " ".join(f"{source}: {type(error).__name__}: {error}".split())
        known = renamed.new_name(message)
        hint = f" {known}: correct the name." if known else ""
        if "malformed node or string" in message or "Unable to parse value" in message:
            # gin names an object of Python's parser.
            message = re.sub(r"malformed node or string on line \d+: <ast\.\w+ object at 0x[0-9a-f]+> ", "", message)
            hint = " Write values as in Python: text in quotes ('...'), True, False and None with a capital letter."
        raise _Wrong(message.replace(" In bindings string line", " Line") + hint) from error


def _own_macros(gin_files: Sequence[str], gin_params: Sequence[str]) -> Iterator[str]:
    """Names of the macros that the user set: shared axes set some for stages that are not run."""
    places = map(_place_of, gin_files)
    own = [path for path in places if path is not None and path.resolve().parent not in SHARED_AXES]
    texts = [*gin_params, *(path.read_text(encoding="utf-8") for path in own)]
    for text in texts:
        yield from re.findall(r"^\s*([A-Za-z_]\w*)\s*=", text, flags=re.MULTILINE)


def _calls() -> set[Key]:
    """The (scope, selector) of all calls that the launch makes: its own, and the references in what they read."""
    calls, todo = set(), [("", LAUNCH)]
    while todo:
        call = todo.pop()
        if call not in calls:
            calls.add(call)
            todo += [_key(each) for key in _scopes_of(*call) for each in _references(gin._CONFIG.get(key, {}))]
    return calls


def _check_overridden(from_files: Mapping[Key, Mapping[str, Any]]) -> None:
    """Refuses what was given on the command line where a binding of a nearer scope stands before it at every call."""
    calls = _calls()
    for (scope, selector), parameters in gin._CONFIG.items():
        before = from_files.get((scope, selector), {})
        for name in parameters:
            if selector == "gin.macro" or (name in before and before[name] is parameters[name]):
                continue
            at_calls = [list(_scopes_of(*call)) for call in sorted(calls) if call[1] == selector]
            nearer = [keys[keys.index((scope, selector)) + 1 :] for keys in at_calls if (scope, selector) in keys]
            hiding = [
                next((key for key in reversed(keys) if name in gin._CONFIG.get(key, {})), None) for keys in nearer
            ]
            if hiding and None not in hiding:
                given = " and ".join(dict.fromkeys(_binding(*key, name) for key in hiding if key))
                raise _Wrong(
                    f"Nothing reads {_binding(scope, selector, name)}: {given} stand before it, for all stages of this "
                    "command that have it. Bind those instead."
                )


def _reachable(*, unbound: bool = False) -> set[Key]:
    """(scope, selector) of all bindings that the launch can read, through the references in its arguments.

    Args:
        unbound: also those that nothing is bound to.
    """
    return {key for call in _calls() for key in _scopes_of(*call) if unbound or key in gin._CONFIG}


def _scopes_of(scope: str, selector: str) -> Iterator[Key]:
    """The bindings that a call in a scope reads: those of the scope and of all around it."""
    parts = scope.split("/") if scope else []
    for i in range(len(parts) + 1):
        yield "/".join(parts[:i]), selector


def _references(parameters: dict[str, Any]) -> list[gin.ConfigurableReference]:
    values = gin._iterate_flattened_values(parameters)
    return [value for value in values if isinstance(value, gin.ConfigurableReference)]


def _key(reference: gin.ConfigurableReference) -> Key:
    return "/".join(reference.scoped_selector.split("/")[:-1]), reference.configurable.selector


def _check_unread(reached: set[Key], own_macros: set[str]) -> None:
    for (scope, selector), parameters in gin._CONFIG.items():
        read, is_macro = (scope, selector) in reached, selector == "gin.macro"
        if is_macro and not read and scope in own_macros:
            raise _Wrong(f"Nothing reads the macro {scope}. Correct its name or take it out.")
        if not is_macro and not read:
            name = _binding(scope, selector, next(iter(parameters)))
            raise _Wrong(f"Nothing reads the binding {name} in these stages. Correct its name or take it out.")
        if not is_macro and stage_of(gin._REGISTRY[selector].wrapped) and "job" in parameters:
            raise _Wrong(f"{_short(selector)}.job is set by the launcher for all stages. Take it out.")


def _check_required(reached: set[Key]) -> None:
    for scope, selector in [("", LAUNCH), *sorted(reached)]:
        for name, value in gin._CONFIG.get((scope, selector), {}).items():
            references = _references({name: value})
            if value is gin.REQUIRED or any(each.scoped_selector.startswith("gin.REQUIRED") for each in references):
                flag = {"data_dir": "--data_dir=FOLDER or "}.get((scope or name).lower(), "")
                raise _missing(scope if selector == "gin.macro" else _binding("", selector, name), flag)
            for reference in references:
                if reference.configurable.selector == "gin.macro" and _key(reference) not in gin._CONFIG:
                    raise _Wrong(
                        f"{_short(selector)}.{name} reads the macro {_key(reference)[0]}, which nothing sets. "
                        "Correct its name or give it a value."
                    )


_Wrong = functools.partial(UserError, code="binding")


def _missing(binding: str, flag: str = "") -> UserError:
    return _Wrong(f"A value is required for {binding}. Give {flag}--gin_param='{binding}=VALUE'.")


def _check_types(reached: set[Key]) -> None:
    for scope, selector in sorted(reached):
        function = gin._REGISTRY[selector].wrapped
        hints = {} if selector == "gin.macro" else typing.get_type_hints(function)
        for name, value in gin._CONFIG[scope, selector].items():
            while isinstance(value, gin.ConfigurableReference) and value.configurable.selector == "gin.macro":
                value = gin._CONFIG[_key(value)]["value"]
            if not _fits(value, hints.get(name, Any)):
                expected = inspect.formatannotation(inspect.signature(function).parameters[name].annotation)
                binding = _binding(scope, selector, name)
                raise UserError(f"Expected {binding} to be of type {expected}, got {value!r}.", code="type")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a bound value can be what an annotation says; true where that cannot be told."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, gin.ConfigurableReference):
        return value.evaluate or hint not in (bool, int, float, str)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, (tuple, list)) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin in (tuple, collections.abc.Sequence):
        return isinstance(value, (tuple, list)) and all(_fits(one, inner[0]) for one in value)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if hint in (bool, str, dict, type(None)):
        return isinstance(value, hint)
    return origin is not collections.abc.Callable


def _short(selector: str) -> str:
    """`search.run` for `kdas_tf.stages.search.run`: how people write it."""
    return ".".join(selector.split(".")[-2:])


def _binding(scope: str, selector: str, name: str) -> str:
    return f"{scope + '/' if scope else ''}{_short(selector)}.{name}"


def arguments_of(stage: Stage) -> dict[str, Any]:
    """All arguments of a stage's `run` but the job, bound or default; refuses what is missing or out of its range."""
    settings_of(stage)  # names a value that is missing, which Python's own error would not
    try:
        bound = gin.get_bindings(_selector(stage))
    except UserError as error:
        raise UserError(
            f"{stage.name}: {str(error).split('  In call to configurable')[0].strip()}", code=error.code
        ) from error
    parameters = list(inspect.signature(stage.run).parameters.values())[1:]
    arguments = {parameter.name: bound.get(parameter.name, parameter.default) for parameter in parameters}
    if stage.check is not None:
        stage.check(**arguments)
    return arguments


def check_arguments() -> dict[str, dict[str, Any]]:
    """{stage: its arguments} of all stages that can be reached, those given to a stage too; refuses wrong ones."""
    selectors = sorted({selector for _, selector in _reachable(unbound=True)})
    stages = [stage_of(gin._REGISTRY[selector].wrapped) for selector in selectors]
    return {stage.name: arguments_of(stage) for stage in stages if stage is not None}


def settings_of(stage: Stage) -> dict[str, str]:
    """The resolved values of a stage's arguments as text, defaults included, and those of the values they are made of.

    Example:
        {"sampling": "@settings.Sampling", "sampling.images_per_identity": "2", "rematerialize": "False"}

    Raises:
        UserError: a value is missing.
    """
    return dict(_resolved(_selector(stage), "", "", complete=True))


def _resolved(selector: str, scope: str, prefix: str, *, complete: bool) -> Iterator[tuple[str, str]]:
    """(name, text) of the arguments of a configurable that is called in a scope.

    If it is complete, all that it needs must be bound; otherwise whoever calls it gives the rest.
    """
    function = gin._REGISTRY[selector].wrapped
    bound: dict[str, Any] = {}
    for key in _scopes_of(scope, selector):
        bound |= gin._CONFIG.get(key, {})
    for name, parameter in inspect.signature(function).parameters.items():
        is_job = name == "job" and stage_of(function) is not None
        if is_job or parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            continue
        if name in bound:
            yield from _described(prefix + name, bound[name])
        elif parameter.default is not inspect.Parameter.empty:
            yield from _described(prefix + name, parameter.default)
        elif complete:
            raise _missing(_binding(scope, selector, name))


def _described(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """(name, text) of a value and of what it is made of."""
    if isinstance(value, gin.ConfigurableReference):
        scope, selector = _key(value)
        if selector == "gin.macro":
            yield from _described(name, gin._CONFIG[scope, selector]["value"])
            return
        yield name, f"@{_short(selector)}"
        complete = value.evaluate or stage_of(value.configurable.wrapped) is not None
        yield from _resolved(selector, scope, f"{name}.", complete=complete)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield name, f"@{_short(f'{type(value).__module__}.{type(value).__qualname__}')}"
        for field in dataclasses.fields(value):
            yield from _described(f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, (tuple, list, dict)):
        items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        if any(isinstance(item, (gin.ConfigurableReference, tuple, list, dict)) for _, item in items):
            for key, item in items:
                yield from _described(f"{name}.{key}", item)
        else:
            texts = [f"{key}: {_text(item)}" if isinstance(value, dict) else _text(item) for key, item in items]
            yield name, ", ".join(texts)
    elif callable(value):
        yield name, f"@{_short(f'{value.__module__}.{value.__qualname__}')}"
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    """A plain value; 1 and 1.0 are the same."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return repr(int(value) if whole else value)


def _selector(stage: Stage) -> str:
    return f"{stage.run.__module__}.{stage.run.__name__}"


def config_text() -> str:
    """All bindings as text."""
    return gin.config_str()


def call_launch() -> None:
    """Calls `kdas_tf.launch.run` with what is bound to it."""
    gin.get_configurable(LAUNCH)()
