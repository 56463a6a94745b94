"""Learning-rate schedules: functions of the update index that are exact at their boundaries."""

from jaxlm.schedules.arrays import ArraySchedule, as_array, from_array, load_array
from jaxlm.schedules.config import WSD, Constant, Cosine, FromArray, Linear, ScheduleConfig, provenance
from jaxlm.schedules.constant import constant
from jaxlm.schedules.cosine import cosine
from jaxlm.schedules.linear import linear
from jaxlm.schedules.steps import Schedule
from jaxlm.schedules.warmup import Warmup
from jaxlm.schedules.wsd import wsd

__all__ = ["ArraySchedule", "Constant", "Cosine", "FromArray", "Linear", "Schedule", "ScheduleConfig", "WSD",
           "Warmup", "as_array", "constant", "cosine", "from_array", "linear", "load_array",
           "provenance", "wsd"]
