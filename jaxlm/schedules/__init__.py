"""Learning-rate schedules: functions of the update index that are exact at their boundaries."""

from jaxlm.schedules.arrays import ArraySchedule, FromArray, as_array, from_array, load_array
from jaxlm.schedules.batch import BatchRamp, by_tokens, doubling_ramp, linear_ramp
from jaxlm.schedules.config import RewarmRedecay, ScheduleConfig, provenance
from jaxlm.schedules.constant import Constant, constant
from jaxlm.schedules.cooldown import CooldownShape, Shape
from jaxlm.schedules.cosine import Cosine, CosineTail, cosine, cosine_tail
from jaxlm.schedules.cycles import WSDS, CyclicCosine, cyclic_cosine, wsd_s
from jaxlm.schedules.half_life import HalfLife, half_life_decay
from jaxlm.schedules.infinite import Infinite, infinite, rewarm_redecay
from jaxlm.schedules.inverse_sqrt import InverseSqrt, inverse_sqrt
from jaxlm.schedules.linear import Linear, linear
from jaxlm.schedules.pieces import join, with_cooldown
from jaxlm.schedules.power import Power, power, power_start
from jaxlm.schedules.refinement import Refinement, refine_norms
from jaxlm.schedules.shapes import InverseSqrtShape, PowerShape
from jaxlm.schedules.step_decay import StepDecay, step_decay
from jaxlm.schedules.steps import Schedule
from jaxlm.schedules.warmup import Warmup
from jaxlm.schedules.wsd import WSD, wsd

__all__ = ["ArraySchedule", "BatchRamp", "Constant", "CooldownShape", "Cosine", "CosineTail", "CyclicCosine",
           "FromArray", "HalfLife", "Infinite", "InverseSqrt", "InverseSqrtShape", "Linear", "Power", "PowerShape",
           "Refinement", "RewarmRedecay", "Schedule", "ScheduleConfig", "Shape", "StepDecay", "WSD", "WSDS", "Warmup",
           "as_array", "by_tokens", "constant", "cosine", "cosine_tail", "cyclic_cosine", "doubling_ramp",
           "from_array", "half_life_decay", "infinite", "inverse_sqrt", "join", "linear", "linear_ramp", "load_array",
           "power", "power_start", "provenance", "refine_norms", "rewarm_redecay", "step_decay", "with_cooldown",
           "wsd", "wsd_s"]
