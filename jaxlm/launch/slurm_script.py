"""A batch script for Slurm: one task a node, all of them one run of the command."""

import dataclasses
import shlex

from jaxlm.config import require
from jaxlm.launch.job import Job, Launch

SCRIPT = "job.sbatch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What the cluster wants to know.

    Attributes:
      sbatch: further options of sbatch as NAME=VALUE, such as partition=gpu or time=24:00:00.
      grace: seconds before the end of its time at which the job is told to save and stop.
    """

    sbatch: tuple[str, ...] = ()
    grace: int = 300

    def __post_init__(self) -> None:
        for option in self.sbatch:
            name, separator, _ = option.partition("=")
            require(bool(separator) and name.replace("-", "").isalpha(), "sbatch", option, "must be NAME=VALUE")


def slurm_launch(job: Job, options: SlurmOptions) -> Launch:
    """Returns the batch script of the job and the command that submits it."""
    require(job.where.compiler_name is None, "slice", job.where.name,
            "Slurm lends GPU nodes; for TPUs use queued or xpk")
    note = f"{job.hosts} nodes of {job.where.chips_per_host} GPUs"
    return Launch(files={SCRIPT: slurm_script(job, options)}, notes=(note,),
                  commands=(*job.before, ("sbatch", f"{{{SCRIPT}}}")))


def slurm_script(job: Job, options: SlurmOptions) -> str:
    """Returns the script; `tpu_setup/run_on_host.sh` finds the coordinator, the first node of the job."""
    lines = [f"job-name={job.name}", f"nodes={job.hosts}", "ntasks-per-node=1",
             f"gpus-per-node={job.where.chips_per_host}", "exclusive", "requeue", "open-mode=append",
             f"signal=TERM@{options.grace}", f"output={job.name}-%j.log", *options.sbatch]
    head = "\n".join(f"#SBATCH --{line}" for line in lines)
    return f"""\
#!/usr/bin/env bash
{head}
set -uo pipefail
cd "$SLURM_SUBMIT_DIR" || exit 1
export JAX_COMPILATION_CACHE_DIR={shlex.quote(job.cache)}
srun --kill-on-bad-exit=1 bash tpu_setup/run_on_host.sh slurm {shlex.join(job.command)}
code=$?
# 75: stopped by a signal or by the loss of a node, to be started again.
if [ "$code" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""
