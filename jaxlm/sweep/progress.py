"""What a person sees while a study trains: bars on a terminal, a line per run elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """Shows the runs of a stage; `work` gives each run's cost, from which the time left follows."""

    def __init__(self, title: str, *, work: dict[str, float], console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._title, self._work = title, work
        self._done = {name: 0.0 for name in work}
        self._ended: set[str] = set()
        self._tasks: dict[str, Any] = {}
        self._span: dict[str, tuple[int, int]] = {}
        self._started = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=28), TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[text]}"), TimeElapsedColumn(), console=self._console,
            disable=not self._console.is_terminal)

    def __enter__(self) -> "Display":
        runs = len(self._work)
        self._console.print(f"{self._title}: {runs} run{'s' if runs > 1 else ''} to train")
        self._bars.start()
        self._total = self._bars.add_task("all runs", total=1.0, text="")
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def started(self, run: str, *, updates: int, first: int) -> None:
        """A run was handed to a worker; it goes from update `first` to `updates`."""
        self._span[run] = (first, updates)
        self._tasks[run] = self._bars.add_task(f"  {run}", total=updates - first, text="starting")

    def progress(self, run: str, step: int, loss: float | None, note: str | None) -> None:
        """A run has made `step` updates; `note` is a warning to show."""
        first, updates = self._span[run]
        self._done[run] = (step - first) / (updates - first)
        if note:
            self._console.print(f"  {run}: {note}", style="yellow")
        text = "" if loss is None else f"loss {loss:.3f}"
        self._bars.update(self._tasks[run], completed=step - first, text=text)
        self._bars.update(self._total, completed=self._share(), text=self._left())

    def again(self, run: str, status: str, reason: str | None) -> None:
        """A run stopped with `status` and will be started again."""
        self._done[run] = 0.0
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        self._console.print(f"  {run}: {status}, {reason}; it is started again", style="yellow", markup=False,
                            soft_wrap=True)

    def ended(self, run: str, status: str, loss: float | None, reason: str | None) -> None:
        """A run ended with `status`."""
        self._done[run] = 1.0
        self._ended.add(run)
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))
        result = f"held-out loss {loss:.4f}" if loss is not None else (reason or "")
        style = None if status == "finished" else "yellow"
        self._console.print(f"  [{len(self._ended)}/{len(self._work)}] {run}: {status}, {result}; {self._left()}",
                            style=style, markup=False, soft_wrap=True)
        self._bars.update(self._total, completed=self._share(), text=self._left())

    def _share(self) -> float:
        total = sum(self._work.values())
        return sum(self._work[run] * done for run, done in self._done.items()) / total

    def _left(self) -> str:
        share, elapsed = self._share(), time.monotonic() - self._started
        if share <= 0.01:
            return "time left unknown"
        seconds = elapsed * (1 - share) / share
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} left"
