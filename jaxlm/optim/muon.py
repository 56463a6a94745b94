"""Muon as a run's configuration; the rule itself is optax's."""

import dataclasses
from typing import Any, ClassVar

import jax
import optax

from jaxlm import config, params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon:
    """Orthogonalised momentum for matrices, Adam for the rest (Jordan et al. 2024; `optax.contrib.muon`).

    Parameters of kind matrix take Muon, each layer of a stack by itself; embeddings, head and vectors
    take Adam with Nesterov momentum at the same rate. Weight decay, `rate * weight_decay * parameter`,
    applies to the matrices alone.

    Attributes:
      beta: decay of the momentum, in [0, 1). 0.95 as in Jordan et al. 2024.
      ns_steps: Newton-Schulz steps, at least 1. 5 as there.
      rms: each matrix's update is scaled to this root mean square, > 0; 0.2 (Liu et al. 2025,
        2502.16982, section 2.2) lets it share AdamW's rate. None scales by sqrt(max(1, out / in)).
      b1: Adam's decay of the first moment, in [0, 1).
      b2: Adam's decay of the second moment, in [0, 1); 0.95 as for `AdamW`.
      eps: added to Adam's root of the second moment and to the matrix norm before Newton-Schulz, > 0.
      weight_decay: at least 0; 0.1 as in Liu et al. 2025.
    """

    kind: ClassVar[str] = "muon"

    beta: float = 0.95
    ns_steps: int = 5
    rms: float | None = 0.2
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("beta", "b1", "b2"):
            value = getattr(self, name)
            config.require(0 <= value < 1, f"optimizer.{name}", value, "must lie in [0, 1)")
        config.require(self.ns_steps >= 1, "optimizer.ns_steps", self.ns_steps, "must be at least 1")
        config.require(self.rms is None or self.rms > 0, "optimizer.rms", self.rms, "must be positive or null")
        config.require(self.eps > 0, "optimizer.eps", self.eps, "must be positive")
        config.require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "must not be negative")

    def build(self, infos: Any) -> optax.GradientTransformation:
        """Returns the chain; learning rate and weight decay are read from its state at run time.

        Args:
          infos: the tree of `ParamInfo` of the parameters.
        """
        rest = {"ns_steps": self.ns_steps, "beta": self.beta, "consistent_rms": self.rms, "eps": self.eps,
                "adam_b1": self.b1, "adam_b2": self.b2,
                "muon_weight_dimension_numbers": jax.tree.map(_dimensions, infos)}

        def muon(learning_rate: jax.Array, weight_decay: jax.Array) -> optax.GradientTransformation:
            return optax.contrib.muon(learning_rate, weight_decay=weight_decay, **rest)

        return optax.inject_hyperparams(muon)(learning_rate=0.0, weight_decay=0.0)


def _dimensions(info: params.ParamInfo) -> optax.contrib.MuonDimensionNumbers | None:
    if info.kind != "matrix":
        return None
    return optax.contrib.MuonDimensionNumbers(reduction_axis=info.stack_axes, output_axis=info.stack_axes + 1)
