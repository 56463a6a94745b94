"""A plan as plain data: what `jaxlm plan --json` prints and what tables are made of."""

import dataclasses
from typing import Any

from jaxlm import model
from jaxlm.launch.plan import Plan
from jaxlm.parallel import AXES
from scaling.record import files


def summary(plan: Plan, price: float | None = None) -> dict[str, Any]:
    """Returns `plan` as JSON-ready data; None stands for what is not known.

    Args:
      plan: the plan.
      price: of a chip-hour, in any currency; None leaves the cost out.
    """
    run, roofline = plan.run, plan.roofline
    return {
        "run": run.name,
        "slice": plan.where.name if plan.where else None,
        "slices": plan.slices,
        "devices": plan.devices,
        "mesh": {axis: length for axis, length in zip(AXES, run.mesh.shape, strict=True) if length > 1},
        "parameters": model.parameter_counts(run.model).total,
        "tokens_per_update": run.tokens_per_update,
        "source": plan.source,
        "note": plan.note,
        "fits": plan.fits,
        "bytes_per_device": _bytes(plan),
        "donated": plan.program.donated if plan.program else None,
        "collectives": [dataclasses.asdict(each) for each in plan.program.collectives] if plan.program else None,
        "flops_per_token": model.flops_per_token(run.model, run.data.sequence),
        "work_per_device": dataclasses.asdict(plan.work),
        "step_seconds": roofline and {
            **{part: files.null_if_not_finite(seconds) for part, seconds in dataclasses.asdict(roofline).items()},
            "least": plan.seconds, "limit": plan.seconds and roofline.limit},
        "mfu_ceiling": plan.mfu_ceiling,
        "tokens_per_day": plan.tokens_per_day,
        "updates": plan.updates,
        "hours": plan.seconds and plan.updates * plan.seconds / 3600,
        "chip_hours": plan.chip_hours,
        "cost": None if price is None else plan.cost(price),
    }


def _bytes(plan: Plan) -> dict[str, Any]:
    held, program = plan.held, plan.program
    return {
        "parameters": held.parameters,
        "optimizer": held.optimizer,
        "batch": held.batch,
        "temporaries": program.temporaries if program else None if plan.refused else held.temporaries,
        "temporaries_by_formula": held.temporaries,
        "arguments": program.arguments if program else None,
        "aliased": program.aliased if program else None,
        "needed": plan.needed,
        "capacity": plan.capacity,
        "over": plan.over,
        "share": plan.needed / plan.capacity if plan.capacity else None,
    }
