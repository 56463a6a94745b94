"""What a job of Slurm executes: one run in a process of its own, which is let down gently when the job must go.

Imports nothing of jaxlm: it is sent to the job by value, so that no job loads JAX to start a process that does.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

PREEMPTED = 75
NOT_STARTED = 256  # no exit code: the checkpoint that the run starts from is not there


class TrainJob:
    """A callable for submitit, which calls `checkpoint` when Slurm preempts the job or its time is up.

    Args:
      command: words of the command that trains the run.
      environment: variables to set for it.
      needs: folder of the checkpoint that the run starts from, None for none.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], needs: str | None) -> None:
        self.command, self.environment, self.needs = tuple(command), environment, needs
        self._process = 0

    def __call__(self) -> int:
        """Trains the run; returns the exit code of its process, `NOT_STARTED` where its parent stopped short."""
        if self.needs is not None and not os.path.isdir(self.needs):
            return NOT_STARTED
        process = subprocess.Popen(self.command, env=os.environ | self.environment, start_new_session=True)
        self._process = process.pid
        # Not by Popen.wait, which holds a lock that `checkpoint`, called inside it, would wait for.
        process.returncode = code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        self._process = 0
        if code == PREEMPTED:  # it was told before this process was: bring about what a signal would
            import submitit

            os.kill(os.getpid(), getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}"))
        return code

    def checkpoint(self) -> Any:
        """Lets the run save its state; returns the submission that goes on with it when Slurm starts the job again."""
        import submitit

        if self._process:
            os.kill(self._process, signal.SIGTERM)
            os.waitpid(self._process, 0)
        return submitit.helpers.DelayedSubmission(TrainJob(self.command, self.environment, self.needs))
