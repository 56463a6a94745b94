"""Warm-up, decay and schedule where no law gives them: conventions, each with its source.

They have no interval, for nobody fitted them; what their authors saw stands with each as its range.
"""

from typing import Literal, get_args

from jaxlm.config import require
from jaxlm.recipes.recipe import Value
from jaxlm.schedules import WSD, Cosine, Linear, ScheduleConfig
from scaling.laws.hyperparameter_rules import Recommendation

ScheduleName = Literal["wsd", "linear", "cosine"]

WARMUP_UPDATES = 300  # Haegele et al. 2024, arXiv 2405.18392: the same for all sizes and lengths
WARMUP_SHARE = 0.05  # Wortsman et al. 2023, arXiv 2309.14322: 5e3 of 1e5 updates
DECAY_SHARE = 0.2  # Haegele et al. 2024: gains level off near a fifth of the run, 1-sqrt
_NONE = "none: a convention, not a fit"
_HAEGELE, _SIZES = "Haegele et al. 2024, arXiv 2405.18392", "33M to 360M parameters"


def warmup(updates: int, tokens_per_update: int, rule: Recommendation) -> Value:
    """Returns the updates of warm-up: the rule's own where it has one, else 300, at most 5% of the run."""
    most = max(1, int(WARMUP_SHARE * updates))
    common = {"name": "warm-up", "unit": "updates"}
    if rule.warmup_tokens is not None:
        wanted = max(1, round(rule.warmup_tokens / tokens_per_update))
        cut = f"; {wanted} cut to 5% of the run" if wanted > most else ""
        return Value(value=min(wanted, most), rule=f"{rule.rule}: {rule.warmup_tokens:,.0f} tokens{cut}",
                     source=rule.source, interval=rule.interval, in_range=rule.in_range, **common)
    common["interval"] = _NONE
    if most < WARMUP_UPDATES:
        return Value(value=most, rule="5% of the run",
                     source="Wortsman et al. 2023, arXiv 2309.14322 (5e3 of 1e5 updates)",
                     in_range="below the 300 updates that longer runs get", **common)
    return Value(value=WARMUP_UPDATES, rule="300 updates", source=_HAEGELE, in_range=_SIZES, **common)


def decay(updates: int, warmup_updates: int, name: ScheduleName) -> Value:
    """Returns the updates over which the rate decays to zero."""
    require(name in get_args(ScheduleName), "schedule", name, f"must be one of {', '.join(get_args(ScheduleName))}")
    common = {"name": "decay", "unit": "updates", "interval": _NONE}
    if name == "wsd":
        return Value(
            value=max(1, round(DECAY_SHARE * updates)), rule="1-sqrt to zero over 20% of all updates",
            source=_HAEGELE, in_range=f"{_SIZES}; longer runs need less: 5% of 200k updates matched cosine",
            note="their best constant rate was half the best cosine peak; not applied", **common)
    rest = updates - warmup_updates
    if name == "linear":
        return Value(value=rest, rule="linear to zero after the warm-up",
                     source="Bergsma et al. 2025, arXiv 2502.15938",
                     in_range="gains grow with tokens per parameter; shown at 20 and more", **common)
    return Value(value=rest, rule="half a cosine to zero after the warm-up", source=_HAEGELE, in_range=_SIZES,
                 note="a cosine is good for this one length", **common)


def configured(name: ScheduleName, peak_lr: float, warmup_updates: int, decay_updates: int) -> ScheduleConfig:
    """Returns the schedule's configuration."""
    if name == "wsd":
        return WSD(peak_lr=peak_lr, warmup=warmup_updates, decay=decay_updates)
    return {"linear": Linear, "cosine": Cosine}[name](peak_lr=peak_lr, warmup=warmup_updates)
