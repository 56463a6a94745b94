"""Frozen dataclass configurations: to and from plain dicts, dotted overrides, hashes, errors.

Configurations are frozen, keyword-only dataclasses. A field may hold a scalar, a tuple, another
configuration, a `Literal` choice, or a union of these; a configuration that is one of several
alternatives names itself by a class attribute `kind`, which is written into its dict.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A mistake in what the user asked for; its text names the field, the value and the rule."""


def require(condition: bool, field: str, value: Any, rule: str) -> None:
    """Raises `ConfigError` naming `field`, `value` and the `rule` it breaks unless `condition`."""
    if not condition:
        raise ConfigError(f"{field} = {value!r}: {rule}")


def nearest(name: str, known: list[str]) -> str:
    """Returns '; did you mean X?' for the closest of `known`, else '; known: ...'."""
    return _guess(name, known) or f"; known: {', '.join(sorted(known))}"


def _guess(name: Any, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5) if isinstance(name, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def to_dict(config: Any) -> Any:
    """Returns `config` as JSON-ready data; `from_dict(type(config), ...)` is its inverse."""
    if dataclasses.is_dataclass(config):
        data = {"kind": config.kind} if hasattr(config, "kind") else {}
        return data | {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    return config


def canonical(config: Any) -> dict[str, Any]:
    """Returns `to_dict` of a configuration with every value in the type of its field: 1 for a float is 1.0.

    Of configurations that share parts, as the runs of a study do, each part is worked out once.
    """
    hints = _hints(type(config))
    data = {"kind": config.kind} if hasattr(config, "kind") else {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not dataclasses.is_dataclass(value):
            data[field.name] = to_dict(_decode(hints[field.name], to_dict(value), field.name))
            continue
        try:
            data[field.name] = json.loads(_canonical_text(value))
        except TypeError:  # a list, given for a tuple, which no cache takes
            data[field.name] = canonical(value)
    return data


@functools.lru_cache(maxsize=1024)
def _canonical_text(config: Any) -> str:
    return json.dumps(canonical(config))


def from_dict(cls: type[T], data: Any, path: str = "") -> T:
    """Builds the configuration `cls` from `data`; raises `ConfigError` on an unknown key or wrong type."""
    return _decode(cls, data, path)


def override(config: T, changes: Mapping[str, str]) -> T:
    """Returns `config` with dotted fields replaced, e.g. `{"model.width": "64"}`.

    Values are text from a command line: JSON where it parses, a plain string otherwise, checked
    against the type of the field. A changed `kind` starts from that alternative's defaults, but for what was
    set to another value than the default and is a field of both. Raises `ConfigError` for a field that does
    not exist.
    """
    data, switched = to_dict(config), []
    # Kinds first: they decide which fields there are.
    for dotted, text in sorted(changes.items(), key=lambda item: not item[0].endswith(".kind")):
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        node, where = data, []
        *parents, leaf = dotted.split(".")
        for key in parents:
            _check_key(node, key, ".".join(where))
            node, where = node[key], [*where, key]
        if where not in switched:  # else `from_dict` checks the key
            _check_key(node, leaf, ".".join(where))
        if leaf == "kind" and value != node["kind"]:
            switched.append(where)
            kept = _shared_settings(config, where, value)
            node.clear()
            node.update(kept)
        node[leaf] = value
    return from_dict(type(config), data)


def _shared_settings(config: Any, where: list[str], kind: Any) -> dict[str, Any]:
    """What the configuration at `where` sets apart from its defaults, as far as alternative `kind` has it too."""
    for key in where[:-1]:
        config = getattr(config, key)
    old, hint = getattr(config, where[-1]), typing.get_type_hints(type(config))[where[-1]]
    named = [cls for cls in typing.get_args(hint) if getattr(cls, "kind", None) == kind]
    if not named:
        return {}
    known = {field.name for field in dataclasses.fields(named[0])}
    return {field.name: to_dict(getattr(old, field.name)) for field in dataclasses.fields(old)
            if field.name in known and getattr(old, field.name) != field.default}


def config_hash(config: Any) -> str:
    """Returns the first eight hexadecimal digits of the SHA-256 of the configuration's dict.

    Equal configurations have equal hashes: a whole number in the place of a float counts as the float.
    """
    if dataclasses.is_dataclass(config):
        config = from_dict(type(config), to_dict(config))
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_key(node: Any, key: str, where: str) -> None:
    name = f"{where}.{key}" if where else key
    if not isinstance(node, dict):
        raise ConfigError(f"{name}: {where or 'the configuration'} has no fields")
    if key not in node:
        raise ConfigError(f"{name}: no such option{nearest(key, list(node))}")


def _decode(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(hint), value, path)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        require(value in choices, path, value, f"must be one of {', '.join(map(repr, choices))}")
        return value
    if origin is tuple:
        require(isinstance(value, (list, tuple)), path, value, "must be a list")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, entry, f"{path}[{i}]") for i, entry in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(hint, value, path)
    return _decode_scalar(hint, value, path)


def _decode_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    right = isinstance(value, hint) and not (hint in (int, float) and isinstance(value, bool))
    name = "null" if hint is type(None) else hint.__name__
    require(right, path, value, f"must be of type {name}, not {type(value).__name__}")
    return value


def _decode_dataclass(cls: type, value: Any, path: str) -> Any:
    if isinstance(value, cls):
        return value
    require(isinstance(value, Mapping), path or cls.__name__, value, "must be a table of fields")
    if hasattr(cls, "kind") and "kind" in value:
        require(value["kind"] == cls.kind, f"{path}.kind" if path else "kind", value["kind"], f"must be {cls.kind!r}")
    data = {key: item for key, item in value.items() if key != "kind" or not hasattr(cls, "kind")}
    hints = _hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in data:
        if key not in known:
            name = f"{path}.{key}" if path else key
            raise ConfigError(f"{name}: no such option{nearest(key, known)}")
    prefix = f"{path}." if path else ""
    fields = {key: _decode(hints[key], item, prefix + key) for key, item in data.items()}
    missing = [f.name for f in dataclasses.fields(cls) if f.name not in fields
               and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    require(not missing, prefix + ", ".join(missing), None, "must be given")
    return cls(**fields)


@functools.cache  # asked a dozen times a run, of thousands of runs
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode_union(options: tuple, value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    kinds = {option.kind: option for option in options if hasattr(option, "kind")}
    if isinstance(value, Mapping) and kinds:
        kind = value.get("kind")
        if kind not in kinds:  # a guess takes longer than all the rest
            raise ConfigError(f"{path}.kind = {kind!r}: must be one of {', '.join(map(repr, kinds))}"
                              f"{_guess(kind, list(kinds))}")
        return _decode(kinds[kind], value, path)
    errors = []
    for option in options:
        if option is not type(None):
            try:
                return _decode(option, value, path)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]
