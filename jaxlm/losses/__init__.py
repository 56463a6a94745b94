"""Training losses."""

from jaxlm.losses.cross_entropy import cross_entropy
from jaxlm.losses.cut_cross_entropy import cut_cross_entropy, default_chunks
from jaxlm.losses.stablemax import stablemax_cross_entropy, stablemax_log_probs

__all__ = ["cross_entropy", "cut_cross_entropy", "default_chunks", "stablemax_cross_entropy", "stablemax_log_probs"]
