"""What is known of parameters: their infos, labels, decay masks, sharding and state placement."""

from jaxlm.params.foreign import infer_info, matching
from jaxlm.params.info import Kind, MatrixDims, ParamInfo
from jaxlm.params.labels import decay_mask, labels, total_count
from jaxlm.params.placement import check_divides, partition_specs, replicated_bytes, spec_like, state_shardings

__all__ = ["Kind", "MatrixDims", "ParamInfo", "check_divides", "decay_mask", "infer_info", "labels", "matching",
           "partition_specs", "replicated_bytes", "spec_like", "state_shardings", "total_count"]
