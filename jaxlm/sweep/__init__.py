"""Studies and the executors that train their runs."""

from jaxlm.sweep.compute import Compute, compute
from jaxlm.sweep.grid import RateGrid
from jaxlm.sweep.pool import Pool, PoolConfig, StudyOutcome
from jaxlm.sweep.study import Stage, Study, load_study
from jaxlm.sweep.trunk import Trunk

__all__ = ["Compute", "Pool", "PoolConfig", "RateGrid", "Stage", "Study", "StudyOutcome", "Trunk", "compute",
           "load_study"]
