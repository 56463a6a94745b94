"""Which runs: conditions on fields, the order of a listing, and a run by its name."""

import dataclasses
import json
import math
import operator
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxlm.config import ConfigError, nearest
from scaling import record
from scaling.record import export, files
from scaling.record.summary import Summary

_OPERATOR = re.compile(r"\s*([\w.\-]+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*")
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on one field: an operator and the text to compare with."""

    field: str
    operator: str
    text: str


def parse(text: str) -> Condition:
    """Returns the condition written `FIELD OP VALUE`; raises `ConfigError` for anything else."""
    match = _OPERATOR.fullmatch(text)
    if match is None:
        raise ConfigError(f"where = {text!r}: must be FIELD OP VALUE, OP one of = != < <= > >= ~")
    return Condition(field=match[1], operator=match[2], text=match[3])


def fields(run: Summary) -> dict[str, Any]:
    """Returns every field of a run by the name that conditions use."""
    row = export.row(run)
    identity = {key: value for key, value in run.identity.items() if key != "config"}
    return {
        **row, "name": run.name, "state": run.state, "N": row["N_total"],
        **export.flatten("config", run.identity["config"]), **export.flatten("identity", identity),
        **export.flatten("result", run.result or {}),
        **export.flatten("attempt", run.attempts[-1] if run.attempts else {}),
    }


def filtered(runs: Sequence[Summary], conditions: Sequence[str], *, sort: str | None = None) -> list[Summary]:
    """Returns the runs of which all `conditions` hold, ordered by field `sort` (`-field`: descending).

    A run without the field meets `!=` only and stands last. Raises `ConfigError` naming the nearest
    field where no run has the one asked for.
    """
    parsed = [parse(text) for text in conditions]
    key = (sort or "").removeprefix("-")
    if not runs or not (parsed or sort):
        return list(runs)
    table = [fields(run) for run in runs]
    for name in [condition.field for condition in parsed] + ([key] if sort is not None else []):
        _check_known(name, table)
    kept = [i for i, row in enumerate(table)
            if all(holds(row.get(condition.field), condition) for condition in parsed)]
    if sort is not None:
        present = [i for i in kept if not _missing(table[i].get(key))]
        present.sort(key=lambda i: _rank(table[i][key]), reverse=sort.startswith("-"))
        kept = present + [i for i in kept if _missing(table[i].get(key))]
    return [runs[i] for i in kept]


def holds(value: Any, condition: Condition) -> bool:
    """Whether `value` meets the condition: numbers as numbers, other values as text.

    Raises `ConfigError` where a number is to be ordered against what is none.
    """
    sign, text = condition.operator, condition.text
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = text
    if sign in ("=", "!="):
        alike = type(value) is type(wanted) or (_is_number(value) and _is_number(wanted))
        same = (alike and value == wanted) or (isinstance(value, str) and value == text)
        return same == (sign == "=")
    if _missing(value):
        return False
    if sign == "~":
        return text.lower() in (value if isinstance(value, str) else json.dumps(value)).lower()
    if _is_number(value):
        if not _is_number(wanted):
            raise ConfigError(f"where = '{condition.field}{sign}{text}': {condition.field} is a number, so "
                              "the value must be one")
        return _ORDER[sign](value, wanted)
    return _ORDER[sign](str(value), text)


def find_run(name: str, root: str) -> Path:
    """Returns the folder of the run that `name` names: a run's folder, or a run under `root` by its name.

    The beginning of a name will do where one run only begins so. Raises `ConfigError` where there is
    none, or more than one.
    """
    given = record.find(name) if name and ("://" in name or Path(name).is_dir()) else []
    if given == [files.folder(name)]:
        return given[0]
    if given:
        raise ConfigError(f"run = {name!r}: a folder of {len(given)} runs, not a run")
    folders = record.find(root)
    for matches in ([f for f in folders if f.name == name], [f for f in folders if f.name.startswith(name)]):
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise ConfigError(f"run = {name!r}: {len(matches)} runs are called so: "
                              f"{', '.join(map(str, matches[:3]))}{' ...' if len(matches) > 3 else ''}")
    hint = nearest(name, [folder.name for folder in folders])
    raise ConfigError(f"run = {name!r}: no such run under {root}{hint if 'did you' in hint else ''}")


def _check_known(name: str, table: Sequence[dict[str, Any]]) -> None:
    if not any(name in row for row in table):
        known = list(dict.fromkeys(key for row in table for key in row))
        hint = nearest(name, known)
        plain = ", ".join(key for key in known if "." not in key)
        short = hint if "did you" in hint else f"; known: {plain}, config. ..."
        raise ConfigError(f"field = {name!r}: no run has it{short}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _rank(value: Any) -> tuple[int, Any]:
    return (0, value) if _is_number(value) else (1, value if isinstance(value, str) else json.dumps(value))
