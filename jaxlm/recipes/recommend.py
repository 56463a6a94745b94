"""What to set for a model and a number of tokens: peak rate, batch, warm-up, decay and schedule, each with its rule.

The laws of rate and batch are those of `scaling.laws.hyperparameter_rules` and fits of `scaling`; nothing of
them is repeated here. What stands here is what no law gives: the conventions of warm-up and decay
(`conventions`), the way from a rule's tokens to sequences and updates, and the checks of a rule's range.
"""

import dataclasses
import math
import warnings as python_warnings
from collections.abc import Sequence

import scaling
from jaxlm.config import ConfigError, require
from jaxlm.model import ModelConfig, ParameterCounts, flops_per_token, parameter_counts
from jaxlm.optim import AdamW, OptimizerConfig
from jaxlm.recipes import conventions
from jaxlm.recipes.conventions import ScheduleName
from jaxlm.recipes.recipe import Recipe, Value
from jaxlm.recipes.rules import Named, lookup
from scaling import Fit
from scaling.law import COUNTINGS
from scaling.laws import batch_rate
from scaling.laws.hyperparameter_rules import Recommendation
from scaling.questions.scaled_rate import scaled_rate

RuleLike = str | Fit
# The critical batch with whose constants a change of batch is judged.
_CEILING = "Zhang, ceiling"


class RecipeWarning(UserWarning):
    """A recommendation that rests on less than it seems to."""


def recommend(
    model: ModelConfig,
    tokens: float,
    *,
    rule: RuleLike | Sequence[RuleLike] = "Step Law",
    schedule: ScheduleName = "wsd",
    sequence: int | None = None,
    batch: int | None = None,
    optimizer: OptimizerConfig = AdamW(),
    counting: str | None = None,
    final_loss: float | None = None,
    level: float = 0.9,
) -> Recipe:
    """Returns what to set for training `model` on `tokens` tokens, each number with rule, interval and range.

    Args:
      model: the model; N is its count of parameters in the way that the rule declares, norms included
        (Step Law leaves norms out: 0.8% of N, 0.6% of the rate, at width 32; less above).
      tokens: training tokens, D.
      rule: the name of a rule of `scaling.laws.hyperparameter_rules`, capitals and punctuation as you
        like ("step-law"); or a fit of step_law, step_law_basin or their like (`scaling.fit`, `scaling.load`,
        `published_draws`). Several: the first that gives a rate and the first that gives a batch count.
      schedule: "wsd", "linear" or "cosine"; see `conventions`.
      sequence: tokens of a sequence; None for `model.sequence`.
      batch: sequences of an update, where another batch than the rule's is wanted. The rate then moves as its
        square root, with SGD in proportion (`scaling.laws.batch_rate`).
      optimizer: the optimizer that will train.
      counting: what N shall count, of `scaling.law.COUNTINGS`; must be what the rule declares, and is
        needed for nothing but rules that declare nothing.
      final_loss: expected final loss on C4, nats per token, for rules in the loss.
      level: probability of the intervals.

    Every line of `Recipe.warnings` is also given as a `RecipeWarning`.

    Raises:
      ConfigError: for an unknown rule, a counting that is not the rule's, tokens that are not positive or fewer
        than one batch, rules that give no rate or no batch, and what the rule needs and was not given.

    >>> model = ModelConfig(vocabulary=50304, sequence=2048, layers=24, width=1024, heads=16)
    >>> made = recommend(model, 2e10)
    >>> round(made.peak_lr, 5), made.batch, made.schedule.kind
    (0.00234, 216, 'wsd')
    """
    require(isinstance(tokens, (int, float)) and math.isfinite(tokens) and tokens > 0, "tokens", tokens,
            "must be finite and above 0")
    sequence = model.sequence if sequence is None else sequence
    require(1 <= sequence <= model.sequence, "sequence", sequence,
            f"must be from 1 to model.sequence = {model.sequence}")
    asked = [rule] if isinstance(rule, (str, Fit)) else list(rule)
    require(bool(asked), "rule", rule, "must name at least one")
    work = _Work(model=model, tokens=float(tokens), sequence=sequence, optimizer=optimizer, counting=counting,
                 final_loss=final_loss, level=level)
    answers = [work.answer(lookup(one)) for one in asked]
    rate = next((one for one in answers if one.row.lr is not None), None)
    size = next((one for one in answers if one.row.batch_tokens is not None), None)
    _check_given(answers, rate, size, batch)
    batch_value, batch = work.batch(size, batch)
    per_update = batch * sequence
    require(per_update <= tokens, "tokens", tokens, f"must be at least one batch, {batch} sequences of {sequence} = "
            f"{per_update} tokens")
    updates = int(tokens // per_update)
    peak = work.peak(rate, per_update, moved=size is not rate or batch_value.rule == "given")
    warmup = conventions.warmup(updates, per_update, rate.row)
    decay = conventions.decay(updates, int(warmup.value), schedule)
    values = (peak, batch_value, warmup, decay)
    if rate.row.beta2 is not None and hasattr(optimizer, "b2"):
        values += (Value(name="beta2", value=rate.row.beta2, unit="", rule=rate.rule.name, source=rate.row.source),)
    lines = tuple(dict.fromkeys(work.warnings))
    for line in lines:
        python_warnings.warn(line, RecipeWarning, stacklevel=2)
    return Recipe(
        model=model, tokens=float(tokens), sequence=sequence, N=rate.n, counting=rate.counting, batch=batch,
        updates=updates, optimizer=optimizer, values=values, warnings=lines,
        schedule=conventions.configured(schedule, float(peak.value), int(warmup.value), int(decay.value)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Answer:
    """What one rule says, and the N that it was asked with."""

    rule: Named
    row: Recommendation
    n: int
    counting: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Work:
    """The question, and the warnings that its answer gathers."""

    model: ModelConfig
    tokens: float
    sequence: int
    optimizer: OptimizerConfig
    counting: str | None
    final_loss: float | None
    level: float
    warnings: list[str] = dataclasses.field(default_factory=list)

    def answer(self, rule: Named) -> _Answer:
        """Returns the rule's answer for N counted as it declares; warns where it leaves its range."""
        counts = parameter_counts(self.model)
        counting = self._counting(rule, counts)
        n = getattr(counts, counting)
        flops = flops_per_token(self.model, self.sequence)
        found = scaling.optimal(
            rule.fit, N=n, D=self.tokens, counting=counting, level=self.level, final_loss=self.final_loss,
            flops_per_token=flops["attention"] + flops["feed_forward"])
        row = found.rows[0] if rule.fit is not None else next(one for one in found.rows if one.rule == rule.name)
        if row.in_range != "inside":
            limits = "; ".join(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in row.ranges.items())
            what = "used outside what it was fitted on" if "times" in row.in_range else "of unknown range"
            limits = f" (fitted on {limits})" if limits else ""
            self.warnings.append(f"{rule.name} is {what}: {row.in_range}{limits}")
        return _Answer(rule=rule, row=row, n=n, counting=counting)

    def _counting(self, rule: Named, counts: ParameterCounts) -> str:
        """Returns what N counts for the rule; raises `ConfigError` where the user wants it otherwise."""
        if self.counting is not None:
            require(self.counting in COUNTINGS, "counting", self.counting,
                    f"must be one of {', '.join(COUNTINGS)}")
        if rule.counting is None:
            counting = self.counting or "non_embedding"
            if "N" in rule.needs and self.counting is None:
                self.warnings.append(f"{rule.name} does not say what its N counts; taken: non_embedding, "
                                     f"{counts.non_embedding:,}; total would be {counts.total:,}")
            return counting
        if self.counting not in (None, rule.counting):
            raise ConfigError(
                f"counting = {self.counting!r}: must be {rule.counting!r}, which {rule.name} declares: N = "
                f"{getattr(counts, rule.counting):,}, not {getattr(counts, self.counting):,}")
        return rule.counting

    def batch(self, size: _Answer | None, given: int | None) -> tuple[Value, int]:
        """Returns the batch in tokens with its rule, and in sequences."""
        if given is not None:
            require(isinstance(given, int) and given >= 1, "batch", given, "must be a whole number of at least 1")
            note = f"{size.rule.name} says {size.row.batch_tokens:,.0f} tokens" if size is not None else ""
            return Value(name="batch", value=given * self.sequence, unit="tokens", rule="given", source="the user",
                         interval="none: given", in_range="", note=note), given
        wanted = size.row.batch_tokens
        sequences = max(1, round(wanted / self.sequence))
        if not 0.9 < sequences * self.sequence / wanted < 1.1:
            self.warnings.append(f"batch: {wanted:,.0f} tokens are {wanted / self.sequence:.3g} sequences of "
                                 f"{self.sequence}; rounded to {sequences}, with the rate unmoved")
        return _value("batch", "tokens", wanted, size, size.row.batch_interval), sequences

    def peak(self, rate: _Answer, batch_tokens: int, *, moved: bool) -> Value:
        """Returns the peak rate, moved to the user's batch where that is another than the rule's."""
        kind = self.optimizer.kind
        linear = kind == "sgd"
        if kind != "adamw":
            self.warnings.append(f"{rate.rule.name} gives the rate of AdamW; {kind} may want one that differs by "
                                 "factors")
        value = _value("peak rate", "", rate.row.lr, rate, rate.row.lr_interval)
        if not moved:
            return value
        if rate.row.batch_tokens is None:
            self.warnings.append(f"{rate.rule.name} names no batch at which its rate holds: the rate is not moved to "
                                 f"{batch_tokens:,} tokens")
            return value
        ceiling = next(row for row in scaling.optimal(N=rate.n, D=self.tokens, counting=rate.counting).rows
                       if row.rule == _CEILING)
        found = scaled_rate(
            batch_tokens, lr=rate.row.lr, reference_batch=rate.row.batch_tokens, level=self.level,
            exponent=batch_rate.SGD if linear else batch_rate.ADAM, critical_batch=ceiling.batch_tokens)
        self.warnings.extend(f"{line} ({_CEILING}: {ceiling.batch_tokens:,.0f} tokens, range: {ceiling.in_range})"
                             for line in found.warnings)
        factor = float(found.point[0]) / rate.row.lr
        ends = {"low": value.low and value.low * factor, "high": value.high and value.high * factor}
        origin = f"from {rate.row.lr:.4g} at {rate.row.batch_tokens:,.0f} tokens"
        how = "in proportion to the batch" if linear else "as the square root of the batch"
        return dataclasses.replace(
            value, value=float(found.point[0]), **ends, rule=f"{value.rule}; {how}",
            source=f"{value.source}; Granziol et al. 2022, arXiv 2006.09092",
            note="; ".join(filter(None, [origin, value.note])))


def _value(name: str, unit: str, number: float, answer: _Answer, ends: tuple[float, float] | None) -> Value:
    row = answer.row
    checked = "" if row.verified else " (quoted by others, not verified)"
    limits = {key: tuple(bounds) for key, bounds in row.ranges.items()}
    return Value(name=name, value=number, unit=unit, rule=answer.rule.name, source=row.source + checked,
                 low=ends and ends[0], high=ends and ends[1], interval=row.interval, valid=limits,
                 in_range=row.in_range, note=row.note)


def _check_given(answers: list[_Answer], rate: _Answer | None, size: _Answer | None, batch: int | None) -> None:
    """Raises `ConfigError` where the rules give no rate, or no batch and the user none either."""
    names = ", ".join(one.rule.name for one in answers)
    if rate is None or (size is None and batch is None):
        missing = [line for one in answers for line in one.row.missing]
        what = "peak rate" if rate is None else "batch"
        why = f": needs {'; '.join(missing)}" if missing else ""
        further = "name a further rule" + ("" if rate is None else ", or give batch")
        notes = [one.row.note for one in answers if rate is None and "it has none" in one.row.note]
        raise ConfigError(f"rule = {names!r}: gives no {what}{why}{'; ' + notes[0] if notes else ''}; {further}")
