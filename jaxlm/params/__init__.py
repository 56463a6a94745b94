"""What is known of parameters: their infos, labels, decay masks, sharding and state placement."""

from jaxlm.params.info import Kind, ParamInfo
from jaxlm.params.labels import decay_mask, labels, total_count
from jaxlm.params.placement import partition_specs, state_shardings

__all__ = ["Kind", "ParamInfo", "decay_mask", "labels", "partition_specs", "state_shardings", "total_count"]
