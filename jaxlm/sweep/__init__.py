"""Studies and the executors that train their runs."""

from jaxlm.sweep.pool import Pool, PoolConfig, StudyOutcome
from jaxlm.sweep.study import Stage, Study, load_study

__all__ = ["Pool", "PoolConfig", "Stage", "Study", "StudyOutcome", "load_study"]
