"""The rules of `scaling` by name, and fits in their place."""

import dataclasses
import difflib
import os
import re
from pathlib import Path

import scaling
from jaxlm.config import ConfigError
from scaling import Fit
from scaling.laws.hyperparameter_rules import RULES
from scaling.questions.published_draws import published_draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A published rule, or a fit in its place.

    Attributes:
      name: for the reader.
      counting: what its N counts, None where it does not say or has no N.
      needs: the inputs that it reads.
      fit: the fit, None for a published rule.
    """

    name: str
    counting: str | None
    needs: tuple[str, ...]
    fit: Fit | None = None


def lookup(rule: str | Fit) -> Named:
    """Returns the rule called `rule`, or that of a fit; raises `ConfigError` naming the nearest ones.

    >>> lookup("step-law").name
    'Step Law'
    """
    if isinstance(rule, Fit):
        law = rule.definition
        if law.inputs != ("N", "D") or not {"lr", "batch"} <= set(law.outputs):
            raise ConfigError(f"rule: a fit of the {rule.law} law gives no rate and batch for N and D")
        return Named(name=f"fit of {rule.law}", counting=rule.counting, needs=law.inputs, fit=rule)
    known = {_plain(one.name): one for one in RULES}
    found = known.get(_plain(str(rule)))
    if found is None:
        near = [known[name].name for name in difflib.get_close_matches(_plain(str(rule)), known, n=3, cutoff=0.5)]
        names = ", ".join(repr(name) for name in near or [one.name for one in RULES])
        raise ConfigError(f"rule = {rule!r}: no such rule; {'nearest' if near else 'known'}: {names}")
    return Named(name=found.name, counting=found.counting, needs=found.needs)


def read(text: str | os.PathLike[str]) -> str | Fit:
    """Returns the rule that a command line names: a fit's JSON file, Step Law's file of draws (.csv), or a name."""
    path = Path(text)
    if path.suffix == ".json":
        return scaling.load(path)
    return published_draws(path) if path.suffix == ".csv" else str(text)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
