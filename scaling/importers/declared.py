"""What a log does not say and a person must: the identity of an imported run."""

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from scaling.errors import InputError
from scaling.law import UNITS
from scaling.record import STATES

# A log that is imported has ended, one way or another.
ENDS = tuple(state for state in STATES if state != "running")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declared:
    """One field that `--set` may declare: dotted place in the identity, kind of value, default."""

    name: str
    kind: Literal["text", "integer", "json"]
    meaning: str
    required: bool = False
    default: Any = None


def _must(name: str, kind: Literal["text", "integer"], meaning: str) -> Declared:
    return Declared(name=name, kind=kind, meaning=meaning, required=True)


# Nothing that enters a law has a default: counts, tokens, unit, seed, corpus and how the run ended.
FIELDS = (
    _must("state", "text", "|".join(ENDS)),
    _must("seed", "integer", "INTEGER"),
    _must("params.total", "integer", "COUNT"),
    _must("params.non_embedding", "integer", "COUNT"),
    _must("params.with_head", "integer", "COUNT"),
    _must("tokens_per_update", "integer", "TOKENS"),
    _must("loss_unit", "text", "|".join(UNITS)),
    _must("corpus.name", "text", "TEXT"),
    Declared(name="corpus.digest", kind="text", meaning="TEXT", default="not recorded"),
    Declared(name="name", kind="text", meaning="TEXT"),
    Declared(name="study", kind="text", meaning="TEXT", default=""),
    Declared(name="bytes_per_token", kind="json", meaning="NUMBER"),
    Declared(name="flops_per_token", kind="json", meaning="JSON", default={}),
    Declared(name="config", kind="json", meaning="JSON", default={}),
    Declared(name="parent", kind="json", meaning="JSON"),
)
_NAMES = tuple(field.name for field in FIELDS)


def declarations(texts: Sequence[str], path: Path | None) -> dict[str, Any]:
    """Returns dotted name -> value from `NAME=VALUE` texts and a JSON file; the texts win.

    The file holds the same fields, dotted or nested. Raises `InputError` for an unknown name or a
    value of the wrong kind.
    """
    given = {} if path is None else _from_file(path)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text}: must read NAME=VALUE; names: {', '.join(_NAMES)}")
        given[name] = value
    for name, value in given.items():
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_NAMES)}"
            raise InputError(f"--set {name}: no such field; {hint}")
        given[name] = _value(FIELDS[_NAMES.index(name)], value)
    return given


def identity_of(given: Mapping[str, Any], *, name: str) -> tuple[dict[str, Any], str]:
    """Returns the identity of the record and the declared state; `name` is the default name.

    Raises one `InputError` that names every required field that is missing.
    """
    missing = [field for field in FIELDS if field.required and field.name not in given]
    if missing:
        wanted = " ".join(f"{field.name}={field.meaning}" for field in missing)
        raise InputError(f"the log does not say these, so declare them: --set {wanted}")
    values = {field.name: given.get(field.name, field.default) for field in FIELDS}
    for field, allowed in (("state", ENDS), ("loss_unit", UNITS)):
        if values[field] not in allowed:
            raise InputError(f"{field} = {values[field]!r}: must be one of {', '.join(allowed)}")
    for field in ("params.total", "params.non_embedding", "params.with_head", "tokens_per_update"):
        if values[field] < 1:
            raise InputError(f"{field} = {values[field]}: must be at least 1")
    ratio = values["bytes_per_token"]
    if ratio is not None and not (type(ratio) in (int, float) and 0 < ratio < math.inf):
        raise InputError(f"bytes_per_token = {ratio!r}: must be a number above 0, or null")
    state = values.pop("state")
    identity: dict[str, Any] = {}
    for dotted, value in values.items():
        outer, _, inner = dotted.partition(".")
        if inner:
            identity.setdefault(outer, {})[inner] = value
        else:
            identity[outer] = value
    identity["name"] = identity["name"] or name
    text = json.dumps(identity["config"], sort_keys=True)
    identity["config_hash"] = hashlib.sha256(text.encode()).hexdigest()[:8]
    return identity, state


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--identity = {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--identity = {str(path)!r}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"--identity = {str(path)!r}: must hold a JSON object")
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if name in ("params", "corpus") and isinstance(value, dict):
            flat.update({f"{name}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[name] = value
    return flat


def _value(field: Declared, value: Any) -> Any:
    """Returns a declared value in its kind; text from the command line is parsed, JSON only checked."""
    where = f"--set {field.name}={value}"
    if field.kind == "text":
        if not isinstance(value, str) or (field.required and not value):
            raise InputError(f"{where}: must be a text")
        return value
    if field.kind == "integer":
        return _integer(value, where)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise InputError(f"{where}: must be JSON") from None


def _integer(value: Any, where: str) -> int:
    """Returns 124000000 for 124000000, "124_000_000" and "124e6" alike."""
    try:
        if isinstance(value, bool):
            raise ValueError
        if isinstance(value, str) and any(letter in value for letter in ".eE"):
            value = float(value)
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: must be an integer") from None
