"""Published rules for learning rate and batch, side by side, each with what it was fitted on.

Only rules whose constants could be read are here. Left out: Bjorck et al. 2024, lr = c N^-0.23 D^-0.32,
because the constant quoted for it (1.3192e-5) belongs to units that are not stated.

Rules disagree by factors, because the basin is flat and because schedules, optimisers, data and the
count of parameters differ. Nothing is clipped: a rule outside its range says how far outside it is, and a
rule that needs what was not given says what. Loss cost on Li et al.'s grids, as their table gives it:
Kaplan 0.95%, DeepSeek 0.93%, Porian 0.37%, Step Law 0.094%.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from scaling import intervals
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.law import COUNTINGS, Published
from scaling.laws import critical_batch, step_law

Given = Mapping[str, float]

# What a rule may need beyond N and D, and how to say so.
_WORDS = {
    "C": "flops_per_token: training FLOPs per token without embedding and head, attention included",
    "loss": "loss: the final loss on C4, nats per token",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A published rule.

    Attributes:
      name, source: short name; author, year, number and where the constants were read.
      verified: True where they were read in the authors' own paper, code or data.
      counting: what its N counts, None where it has none or does not say.
      needs: which of N, D, C, loss it reads.
      ranges: what it was fitted on, rates (lr) and batches of its runs among it; what is missing was not stated.
      lr, batch: functions of the inputs by name, batch in tokens; None where it gives none.
      warmup: tokens of warm-up, a function of the inputs; None where it gives none.
      beta2: of Adam, a function of the batch in tokens; None where it gives none.
      note: what a reader must know before using it.
    """

    name: str
    source: str
    verified: bool
    counting: str | None
    needs: tuple[str, ...]
    lr: Callable[[Given], float] | None = None
    batch: Callable[[Given], float] | None = None
    warmup: Callable[[Given], float] | None = None
    beta2: Callable[[float], float] | None = None
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What one rule says for a run.

    Attributes:
      rule, source, verified, note: as in `Rule`; `note` also names a mismatch of counting, and fits
        count as verified.
      lr, batch_tokens: its answers, None where it has none or lacks an input.
      lr_interval, batch_interval: ends of the interval at `level`, None where there are no draws.
      interval: what the intervals cover, or why there are none.
      in_range: "inside", how far outside what it was fitted on, or that this is not stated.
      missing: inputs that it needs and that were not given.
      warmup_tokens, beta2: its answers, None where it has none.
      ranges: what it was fitted on, as in `Rule`.
    """

    rule: str
    source: str
    verified: bool
    lr: float | None
    batch_tokens: float | None
    lr_interval: tuple[float, float] | None = None
    batch_interval: tuple[float, float] | None = None
    interval: str = "none: published constants without draws"
    in_range: str = "not stated"
    missing: tuple[str, ...] = ()
    note: str = ""
    warmup_tokens: float | None = None
    beta2: float | None = None
    ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)


def recommend(
    N: float,
    D: float,
    *,
    counting: str,
    flops_per_token: float | None = None,
    loss: float | None = None,
    fits: Sequence[Fit] = (),
    level: float = 0.9,
) -> list[Recommendation]:
    """Returns every rule's learning rate and batch for one run, own fits first.

    Args:
      N, D: parameters and training tokens.
      counting: what N counts, one of `scaling.law.COUNTINGS`.
      flops_per_token: training FLOPs per token without embedding and head, for rules in C.
      loss: expected final loss on C4 in nats per token, for rules in the loss.
      fits: fits of step_law or step_law_basin, `questions.published_draws` among them.
      level: probability of the intervals.

    Raises `InputError` for values that are not positive and for fits of other laws.
    """
    if counting not in COUNTINGS:
        raise InputError(f"counting = {counting!r}: must be one of {', '.join(COUNTINGS)}")
    given = {"N": N, "D": D, "C": None if flops_per_token is None else flops_per_token * D, "loss": loss}
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} = {value!r}: must be finite and above 0")
    known = {name: float(value) for name, value in given.items() if value is not None}
    rows = [_from_fit(fit, known, counting, level) for fit in fits]
    return rows + [_from_rule(rule, known, counting) for rule in RULES]


def table(rows: Sequence[Recommendation]) -> str:
    """Returns the recommendations as text, one line a rule, its remarks below it."""
    lines = [f"{'rule':<22}{'lr':>12}{'batch, tokens':>16}  verified  range"]
    for row in rows:
        lr = "-" if row.lr is None else f"{row.lr:.4g}"
        batch = "-" if row.batch_tokens is None else f"{row.batch_tokens:,.0f}"
        verified = "yes" if row.verified else "no"
        lines.append(f"{row.rule:<22}{lr:>12}{batch:>16}  {verified:<8}  {row.in_range}")
        for what, ends in (("lr", row.lr_interval), ("batch", row.batch_interval)):
            if ends:
                lines.append(f"{'':<22}  {what} {ends[0]:.4g} to {ends[1]:.4g}")
        lines.extend(f"{'':<22}  needs {words}" for words in row.missing)
        lines.extend([f"{'':<22}  {row.note}"] if row.note else [])
    return "\n".join(lines)


def _from_rule(rule: Rule, given: Given, counting: str) -> Recommendation:
    missing = tuple(_WORDS[name] for name in rule.needs if name not in given)
    lr = rule.lr(given) if rule.lr and not missing else None
    batch = rule.batch(given) if rule.batch and not missing else None
    notes = [rule.note, _mismatch(rule.counting, counting)]
    if lr is not None and lr <= 0:
        notes.append(f"its rate would be {lr:.3g}: it has none at this size")
        lr = None
    found = {name: value for name, value in (("lr", lr), ("batch", batch)) if value is not None}
    return Recommendation(
        rule=rule.name,
        source=rule.source,
        verified=rule.verified,
        lr=lr,
        batch_tokens=batch,
        warmup_tokens=rule.warmup(given) if rule.warmup and not missing else None,
        beta2=rule.beta2(batch) if rule.beta2 and batch is not None else None,
        ranges=rule.ranges,
        in_range=_outside(rule, given, found),
        missing=missing,
        note="; ".join(note for note in notes if note),
    )


def _from_fit(fit: Fit, given: Given, counting: str, level: float) -> Recommendation:
    law = fit.definition
    if law.inputs != ("N", "D") or not {"lr", "batch"} <= set(law.outputs):
        raise InputError(f"fits: a fit of the {law.name} law gives no lr and batch from N and D")
    found = {
        output: intervals.predict(fit, N=given["N"], D=given["D"], output=output, observed=False, level=level)
        for output in ("lr", "batch")
    }
    ends = {
        name: None if value.low is None or value.high is None else (float(value.low[0]), float(value.high[0]))
        for name, value in found.items()
    }
    return Recommendation(
        rule=f"{law.name} (fit)",
        source=f"{law.source}; {fit.n_rows} rows" if fit.n_rows else law.source,
        verified=True,
        lr=float(found["lr"].point[0]),
        batch_tokens=float(found["batch"].point[0]),
        lr_interval=ends["lr"],
        batch_interval=ends["batch"],
        interval=found["lr"].interval,
        in_range="; ".join(found["lr"].warnings) or "inside",
        ranges=fit.ranges,
        note=_mismatch(fit.counting, counting),
    )


def _mismatch(wanted: str | None, counting: str) -> str:
    if wanted in (None, counting):
        return ""
    return f"its N counts {wanted} parameters, the N given {counting}"


def _outside(rule: Rule, given: Given, found: Given) -> str:
    """Returns how far the inputs and the answers `found` lie outside what the rule was fitted on."""
    lines = []
    lines += [f"{name} not stated" for name in rule.needs if name not in rule.ranges]
    known = {name: given[name] for name in rule.needs if name in given} | dict(found)
    for name, value in known.items():
        low, high = rule.ranges.get(name, (value, value))
        if value < low:
            lines.append(f"{name} {low / value:.3g} times below {low:.3g}")
        if value > high:
            lines.append(f"{name} {value / high:.3g} times above {high:.3g}")
    if not lines:
        return "inside" if set(rule.needs) <= set(given) else "unknown without what is missing"
    return "; ".join(lines)


# Rates and batches in tokens of Li et al.'s released runs.
_STEP_LAW_RUNS = {"lr": (2.4e-4, 2.2e-2), "batch": (3.3e4, 4.2e6)}


def _step_law(entry: Published, name: str) -> Rule:
    p = entry.values
    return Rule(
        name=name,
        source=entry.source,
        verified=entry.verified,
        counting=entry.counting,
        needs=("N", "D"),
        lr=lambda g: p["lr_scale"] * g["N"] ** p["lr_N"] * g["D"] ** p["lr_D"],
        batch=lambda g: p["batch_scale"] * g["D"] ** p["batch_D"],
        ranges=dict(entry.ranges) | _STEP_LAW_RUNS,
        note="AdamW, rate ends at a fixed 1e-5",
    )


_ZHANG = critical_batch.LAW.published[0]

RULES: tuple[Rule, ...] = (
    _step_law(step_law.LAW.published[0], "Step Law"),
    _step_law(step_law.LAW.published[1], "Step Law, tool"),
    Rule(
        name="DeepSeek",
        source="DeepSeek-AI 2024, arXiv 2401.02954, equation 1",
        verified=True,
        counting=None,
        needs=("C",),
        lr=lambda g: 0.3118 * g["C"] ** -0.1250,
        batch=lambda g: 0.2920 * g["C"] ** 0.3271,
        ranges={"C": (1e17, 2e19)},  # section 3.1; checked by the authors at 1e20
        note="multi-step schedule; C = non-embedding FLOPs per token x tokens, not 6 N D",
    ),
    Rule(
        name="MiniCPM",
        source="Hu et al. 2024, arXiv 2404.06395",
        verified=True,
        counting=None,
        needs=("loss",),
        batch=lambda g: 1.21e9 / g["loss"] ** 6.24,
        note="loss on C4 with its tokenizer; muP with a base rate of 0.01 at every size",
    ),
    Rule(
        name="Porian, in OLMo-core",
        source="code of OLMo-core's model ladder, after Porian et al. 2024, arXiv 2406.19146",
        verified=True,
        counting="non_embedding",
        needs=("N",),
        lr=lambda g: 0.0047 * (g["N"] / 1.08e8) ** (-1 / 3),
        batch=lambda g: 2048 * 160 * (g["N"] / 1.08e8) ** (2 / 3),
        warmup=lambda g: g["N"],
        beta2=lambda batch: 0.95 if batch >= 2**19 else 0.99,
        note="for D = 20 N; the ladder halves it for WSD",
    ),
    Rule(
        name="Porian, as tabled",
        source="Porian et al. 2024, arXiv 2406.19146, as quoted by Li et al. 2025, arXiv 2503.04715",
        verified=False,
        counting=None,
        needs=("N",),
        lr=lambda g: 3.7 * g["N"] ** -0.36,
        batch=lambda g: 0.7576 * g["N"] ** 0.703,
        note="for D = 20 N",
    ),
    Rule(
        name="Kaplan",
        source="Kaplan et al. 2020, arXiv 2001.08361, equation D.1",
        verified=True,
        counting="non_embedding",
        needs=("N",),
        lr=lambda g: 0.003239 - 0.0001395 * math.log(g["N"]),
        note="a rule of thumb; no rate where the formula turns negative",
    ),
    Rule(
        name="Power Lines",
        source="Bergsma et al. 2025, arXiv 2505.13738; exponent read, constant quoted",
        verified=False,
        counting=None,
        needs=("D",),
        batch=lambda g: 2048 * 0.0306 * g["D"] ** 0.383,
        note="batch in sequences, taken as 2048 tokens, which is not stated where the constant was read",
    ),
    Rule(
        name="Power Lines, ceiling",
        source="Bergsma et al. 2025, arXiv 2505.13738; exponent read, constant quoted",
        verified=False,
        counting=None,
        needs=("D",),
        batch=lambda g: 2048 * 0.0471 * g["D"] ** 0.462,
        note="critical batch, not the best; D should be the least tokens for the loss; sequences as above",
    ),
    Rule(
        name="Zhang, ceiling",
        source=_ZHANG.source,
        verified=_ZHANG.verified,
        counting=None,
        needs=("D",),
        batch=lambda g: _ZHANG.values["critical_batch_scale"] * g["D"] ** _ZHANG.values["critical_batch_D"],
        ranges=_ZHANG.ranges,
        note="critical batch at 20% more steps than ideal, not the best",
    ),
)
