"""Studies and the executors that train their runs."""

from jaxlm.sweep.compute import Compute, compute
from jaxlm.sweep.executor import EXECUTORS, Executor, RetryPolicy, StudyOutcome, make_executor
from jaxlm.sweep.grid import RateGrid
from jaxlm.sweep.pool import Pool, PoolConfig
from jaxlm.sweep.study import Stage, Study, load_study, save_study
from jaxlm.sweep.trunk import Trunk

__all__ = ["EXECUTORS", "Compute", "Executor", "Pool", "PoolConfig", "RateGrid", "RetryPolicy", "Stage", "Study",
           "StudyOutcome", "Trunk", "compute", "load_study", "make_executor", "save_study"]
