"""What the rest of the system may know about a parameter: its `ParamInfo`."""

import dataclasses
from typing import Literal

Kind = Literal["embedding", "matrix", "vector", "head"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParamInfo:
    """Describes one array of the parameter tree; made where the parameter is defined.

    Sharding, labels, decay masks, transfer rules and counts read this and nothing else. In a tree
    it is a leaf. Stack axes come first and are in `shape` and `axes` like any other axis.

    Attributes:
      shape: the array's shape, stack axes included.
      axes: the logical axis name of each dimension, such as "layers", "width", "heads", "ff",
        "vocab", "time"; None for an axis that is never sharded.
      kind: embedding (token or position table), matrix (a linear map inside the network), vector
        (gains and biases) or head (the output projection, where untied).
      stack_axes: the number of leading axes over which one rule is repeated (layers, experts).
      fan_in: the number of inputs that are summed into one output, 1 for vectors.
      width_multiplier: width over base width, for transfer rules.
      depth_multiplier: depth over base depth, for transfer rules.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    kind: Kind
    stack_axes: int = 0
    fan_in: int = 1
    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0

    @property
    def size(self) -> int:
        """The number of scalars in the array."""
        total = 1
        for length in self.shape:
            total *= length
        return total
