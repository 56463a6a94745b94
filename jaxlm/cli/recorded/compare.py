"""`jaxlm runs compare`: two runs field by field."""

import json
from typing import Any

import numpy as np

from jaxlm.cli.recorded.select import find_run
from jaxlm.cli.recorded.show import NOT_CONDITIONS
from jaxlm.cli.table import render
from scaling import record
from scaling.record import export


def run(name_a: str, name_b: str, root: str) -> int:
    """Prints where two runs differ; the last line says `equal` or how many result fields differ."""
    a, b = (record.read(find_run(name, root)) for name in (name_a, name_b))
    print(f"A  {a.folder}\nB  {b.folder}")
    section("configuration", differences(a.identity["config"], b.identity["config"]))
    last = [{key: value for key, value in (one.attempts[-1] if one.attempts else {}).items()
             if key not in NOT_CONDITIONS} for one in (a, b)]
    section("conditions of the last attempt", differences(*last))
    print("\nlosses at common steps")
    for line in losses(a, b):
        print(f"  {line}")
    lines = record.equal(a, b)
    # The configuration stands above; here it counts as one field.
    rest = [line for line in lines if not line.startswith("identity.config.")]
    if lines:
        print("\nresult fields that differ")
        for line in rest + ["identity.config: as above"] * (len(rest) < len(lines)):
            print(f"  {line}")
    print(f"\n{count(lines, 'result field')}" if lines else "\nequal")
    return 0


def section(title: str, rows: list[list[str]]) -> None:
    """Prints the fields that differ under a title."""
    print(f"\n{title}: " + (count(rows, "field") if rows else "the same"))
    if rows:
        table = render(("field", "A", "B"), rows, left=("field", "A", "B"))
        print("\n".join(f"  {line}" for line in table.splitlines()))


def count(found: list[Any], what: str) -> str:
    """Returns `1 field differs`, `2 fields differ`."""
    return f"{len(found)} {what}s differ" if len(found) > 1 else f"1 {what} differs"


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[list[str]]:
    """Returns [field, value in a, value in b] for each leaf of two nested dicts that differs."""
    flat_a, flat_b = ({key[1:]: value for key, value in export.flatten("", side).items()} for side in (a, b))
    return [[key, _text(flat_a, key), _text(flat_b, key)] for key in dict.fromkeys([*flat_a, *flat_b])
            if key not in flat_a or key not in flat_b or flat_a[key] != flat_b[key]]


def losses(a: record.Run, b: record.Run) -> list[str]:
    """Returns a line for each kind of loss: at how many common steps it differs, by how much, and where."""
    steps, in_a, in_b = np.intersect1d(a.metrics["step"], b.metrics["step"], return_indices=True)
    if not steps.size:
        return ["no steps in common"]
    lines = []
    for name in ("train_loss", "heldout_loss"):
        pair = [one.metrics[name][index] for one, index in ((a, in_a), (b, in_b))]
        both = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
        apart = np.abs(pair[0] - pair[1])[both]
        if not apart.size:
            lines.append(f"{name}: at no common step in both")
        elif not apart.any():
            lines.append(f"{name}: the same at {apart.size} steps")
        else:
            at = int(np.argmax(apart))
            values = " against ".join(f"{side[both][at]:.6g}" for side in pair)
            lines.append(f"{name}: differs at {np.count_nonzero(apart)} of {apart.size} steps, most at step "
                         f"{steps[both][at]}: {values}, {apart[at]:.3g} apart; first at step "
                         f"{steps[both][int(np.argmax(apart > 0))]}")
    return lines


def _text(flat: dict[str, Any], key: str) -> str:
    text = json.dumps(flat[key]) if key in flat else "(absent)"
    return text if len(text) <= 60 else text[:57] + "..."
