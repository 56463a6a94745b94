"""Schema version 1 of the run record: every field with its kind, unit and meaning.

A run is a folder:

    run.json                               {"schema_version", "identity", "attempts", "status"}
    schedule.npy                           float64, the learning rate of every update
    schedule.json                          where the schedule came from
    metrics/<attempt>-<first_step>.jsonl   one JSON object a line, one line an update
    diagnostics/<attempt>-<first_step>.jsonl   as metrics, of some updates; optional

`result` fields are decided by the configuration, the data and the seed, and two equal runs share
them bit for bit; `measured` fields (times, host, versions) may differ between equal runs.
"""

import dataclasses
from typing import Any, Literal

from scaling.errors import InputError

SCHEMA_VERSION = 1
STATES = ("running", "finished", "diverged", "preempted", "failed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """One field of the record: its dotted name, kind, Python types, unit and meaning."""

    name: str
    kind: Literal["result", "measured"]
    types: tuple[type, ...]
    unit: str
    meaning: str


def _result(name: str, types: tuple[type, ...], unit: str, meaning: str) -> Field:
    return Field(name=name, kind="result", types=types, unit=unit, meaning=meaning)


def _measured(name: str, types: tuple[type, ...], unit: str, meaning: str) -> Field:
    return Field(name=name, kind="measured", types=types, unit=unit, meaning=meaning)


_NUMBER = (int, float)

IDENTITY = (
    _result("name", (str,), "-", "readable name of the run"),
    _result("study", (str,), "-", "name of the study that the run belongs to"),
    _result("seed", (int,), "-", "seed of initialisation, data order and dropout"),
    _result("parent", (dict, type(None)), "-", 'null, or {"run", "step"} that this run branches from'),
    _result("config", (dict,), "-", "the full resolved configuration"),
    _result("config_hash", (str,), "-", "hash of the configuration"),
    _result(
        "params", (dict,), "parameters", "total, non_embedding, with_head (tied table counted once, as head)"
    ),
    _result("tokens_per_update", (int,), "tokens", "batch size of one update"),
    _result("flops_per_token", (dict,), "FLOP/token", "training FLOPs by part"),
    _result("corpus", (dict,), "-", "name and digest of the training text"),
    _result("loss_unit", (str,), "-", "unit of every loss in the record: nats/token"),
    _result(
        "bytes_per_token",
        (*_NUMBER, type(None)),
        "bytes/token",
        "1.0 for byte tokens, else measured; null for synthetic tokens",
    ),
)

# Further keys are allowed in an attempt: all of it is measured.
ATTEMPT = (
    _measured("attempt", (int,), "-", "0 for the first start, counting up; set by the writer"),
    _measured("started", (str,), "ISO 8601, UTC", "time of the start; set by the writer where absent"),
    _measured("versions", (dict,), "-", "package versions"),
    _measured("revision", (str, type(None)), "-", "source revision"),
    _measured("host", (str,), "-", "host name"),
    _measured("jaxlib", (str,), "-", "jaxlib version"),
    _measured("processor", (str,), "-", "processor or accelerator type"),
    _measured("devices", (int,), "devices", "device count, over all hosts"),
    _measured("hosts", (int,), "hosts", "host count; absent means one"),
    _measured("cpu_threads", (int,), "threads", "CPU threads that the process may use"),
)

STATUS = (
    _measured("state", (str,), "-", "running, finished, diverged, preempted or failed"),
    _measured("reason", (str, type(None)), "-", "why, where the run did not finish"),
    _result("result", (dict, type(None)), "-", "what a finished run ended with"),
)

RESULT = (
    _result("updates", (int,), "updates", "updates done"),
    _result("tokens", (int,), "tokens", "tokens seen, D in scaling laws"),
    _result("heldout_loss", (*_NUMBER, type(None)), "loss_unit", "held-out loss after the last update"),
    _result("params_digest", (str, type(None)), "-", "digest of the final parameters"),
)

METRICS = (
    _result("step", (int,), "update index from 0", "which update the row is of"),
    _result("tokens", (int,), "tokens", "tokens seen after this update"),
    _result("lr", _NUMBER, "-", "learning rate of this update"),
    _result("train_loss", _NUMBER, "loss_unit", "loss on this update's batch, before the update"),
    _result(
        "heldout_loss", _NUMBER, "loss_unit", "held-out loss after this update; absent where not evaluated"
    ),
    _result("grad_l2", _NUMBER, "-", "gradient l2 norm before clipping"),
    _result("grad_l1", _NUMBER, "-", "gradient l1 norm before clipping"),
    _result("update_rms", _NUMBER, "-", "root mean square of the parameter change"),
    _result("param_rms", _NUMBER, "-", "root mean square of the parameters"),
    _measured("seconds", _NUMBER, "s", "wall time of this update"),
)

# Every field but step may be absent. Lists have one value a layer, or a block: embedding, each layer, and
# the rest (final norm and output projection), but for that of sources. Formulas: jaxlm/train/diagnostics.py.
_LIST = (*_NUMBER, list)
DIAGNOSTICS = (
    _result("step", (int,), "update index from 0", "the update that the row follows"),
    _result("source_losses", _LIST, "loss_unit", "held-out loss of each of evaluation.sources, in their order"),
    _result("small_batch", (int,), "sequences", "batch of the gradients behind small_grad_sq"),
    _result("small_grad_sq", _NUMBER, "-", "mean squared l2 norm of gradients of small_batch sequences"),
    _result("big_batch", (int,), "sequences", "batch of the gradient behind big_grad_sq"),
    _result("big_grad_sq", _NUMBER, "-", "squared l2 norm of the gradient of big_batch sequences"),
    _result("block_update_rms", _LIST, "-", "root mean square of the parameter change, by block"),
    _result("block_param_rms", _LIST, "-", "root mean square of the parameters after the update, by block"),
    _result("attention_logit_max", _LIST, "-", "largest causal |q k| / sqrt(head size), by layer"),
    _result("attention_entropy", _LIST, "share of log(keys), 0 to 1", "smallest of the heads, by layer"),
    _result("residual_rms", _LIST, "-", "root mean square of the residual stream after the block, by layer"),
    _result("residual_kurtosis", _LIST, "-", "excess kurtosis of the same over channels, by layer"),
)

COUNTINGS = ("total", "non_embedding", "with_head")
METRIC_KIND = {field.name: field.kind for field in METRICS}
INTEGER_METRICS = ("step", "tokens")


def check_fields(where: str, data: Any, fields: tuple[Field, ...]) -> None:
    """Raises `InputError` unless `data` is a dict with exactly `fields`, each of a right type."""
    if not isinstance(data, dict):
        raise InputError(f"{where} = {data!r}: must be a dict")
    known = {field.name: field for field in fields}
    for name in data:
        if name not in known:
            raise InputError(f"{where}.{name}: no such field; known: {', '.join(known)}")
    for name, field in known.items():
        if name not in data:
            raise InputError(f"{where}.{name}: missing; it is the {field.meaning}")
        _check_type(f"{where}.{name}", data[name], field.types)


def check_identity(identity: Any) -> None:
    """Raises `InputError` naming the first field of `identity` that breaks the schema."""
    check_fields("identity", identity, IDENTITY)
    for outer, keys in (("params", COUNTINGS), ("corpus", ("name", "digest"))):
        missing = [key for key in keys if key not in identity[outer]]
        if missing:
            raise InputError(f"identity.{outer}.{missing[0]}: missing; needs {', '.join(keys)}")
    parent = identity["parent"]
    if parent is not None and set(parent) != {"run", "step"}:
        raise InputError(f"identity.parent = {parent!r}: must be null or hold exactly run and step")


def _check_type(where: str, value: Any, types: tuple[type, ...]) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise InputError(f"{where} = {value!r}: must be of type {names}")
