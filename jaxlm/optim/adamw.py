"""AdamW as a run's configuration; the rule itself is optax's."""

import dataclasses
from typing import Any, ClassVar

import optax

from jaxlm import config, params


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017, 1711.05101).

    The decay is `rate * weight_decay * parameter`, as in optax and PyTorch.

    Attributes:
      b1: decay of the first moment, in [0, 1).
      b2: decay of the second moment, in [0, 1). 0.95 as in Wortsman et al. 2023 (2309.14322);
        small batches want it nearer to 0.99 (Porian et al. 2024, 2406.19146).
      eps: added to the root of the second moment, > 0. 1e-8 as in Wortsman et al. 2023.
      weight_decay: at least 0. 0.1 is the customary value (Wortsman et al. 2023, section on set-up).
    """

    kind: ClassVar[str] = "adamw"

    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        config.require(0 <= self.b1 < 1, "optimizer.b1", self.b1, "must lie in [0, 1)")
        config.require(0 <= self.b2 < 1, "optimizer.b2", self.b2, "must lie in [0, 1)")
        config.require(self.eps > 0, "optimizer.eps", self.eps, "must be positive")
        config.require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "must not be negative")

    def build(self, infos: Any) -> optax.GradientTransformation:
        """Returns the chain; learning rate and weight decay are read from its state at run time.

        Args:
          infos: the tree of `ParamInfo` of the parameters; weight decay follows `params.decay_mask`.
        """
        mask = params.decay_mask(infos)
        static = ("b1", "b2", "eps", "eps_root", "mu_dtype", "mask", "nesterov")
        make = optax.inject_hyperparams(optax.adamw, static_args=static)
        return make(learning_rate=0.0, b1=self.b1, b2=self.b2, eps=self.eps, weight_decay=0.0, mask=lambda _: mask)
