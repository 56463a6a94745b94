"""`jaxlm runs --watch`: the table of runs while they train, on a terminal or as plain lines."""

import collections
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxlm.cli.recorded.live import Live, Row

TITLES = ("run", "status", "updates", "loss", "tokens/s", "left")
OVER = ("finished", "diverged", "failed")
# What a person looks for first; of the others there may be a thousand.
ORDER = ("running", "interrupted", "preempted", "failed", "diverged", "finished")


def run(roots: Sequence[str], *, every: float, sleep: Callable[[float], None] = time.sleep) -> int:
    """Shows the runs under `roots` until all have ended and no study is at work; looks again after `every` seconds."""
    live = Live(roots)
    looks = _looks(live, live.poll(), every=every, sleep=sleep)
    if sys.stdout.isatty():
        return _show(live, looks)
    shown: dict[Any, list[str]] = {}
    told: set[str] = set()
    for rows in looks:
        for row in rows:
            line = cells(row)
            if shown.get(row.run.folder, [])[:3] != line[:3]:  # name, status, updates
                shown[row.run.folder] = line
                print(plain(line), flush=True)
        for line in live.damaged:
            if line not in told:
                told.add(line)
                print(f"jaxlm: cannot be read: {line}", file=sys.stderr, flush=True)
    print(summary(rows), flush=True)
    return 0


def _looks(
    live: Live, rows: Sequence[Row], *, every: float, sleep: Callable[[float], None]
) -> Iterator[Sequence[Row]]:
    """Yields the rows again and again until nothing more will happen; a store that fails is asked again."""
    ended = over(live, rows)
    while True:
        yield rows
        if ended:
            return
        sleep(every)
        try:
            rows = live.poll()
            ended = over(live, rows)
        except OSError as error:
            live.damaged = (str(error),)


def over(live: Live, rows: Sequence[Row]) -> bool:
    """Whether nothing more will happen, as far as the records tell."""
    return all(row.run.state in OVER for row in rows) and not live.at_work()


def cells(row: Row) -> list[str]:
    """Returns the row as text: name, status, updates, loss, tokens per second, time left."""
    run = row.run
    loss = run.heldout_loss if run.result is not None or math.isnan(run.train_loss) else run.train_loss
    speed = "" if math.isnan(row.tokens_per_second) else f"{row.tokens_per_second:,.0f}"
    return [run.name, run.state, f"{run.updates}/{run.length}", "" if math.isnan(loss) else f"{loss:.4f}", speed,
            left(row.seconds_left)]


def plain(line: Sequence[str]) -> str:
    """Returns the cells of a row as a line for a log."""
    name, status, updates, loss, speed, remaining = line
    more = [f"loss {loss}"] * bool(loss) + [f"{speed} tokens/s"] * bool(speed) + [f"{remaining} left"] * bool(remaining)
    return "  ".join([name, status, updates, *more])


def summary(rows: Sequence[Row]) -> str:
    """Returns how many runs have which status, and how long the longest still takes."""
    counts = collections.Counter(row.run.state for row in rows)
    longest = max((row.seconds_left for row in rows if not math.isnan(row.seconds_left)), default=math.nan)
    text = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    return f"{len(rows)} runs: {text}" + ("" if math.isnan(longest) else f"; the longest has {left(longest)} left")


def left(seconds: float) -> str:
    """Returns seconds as h:mm:ss, empty for NaN."""
    if math.isnan(seconds):
        return ""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _show(live: Live, looks: Iterator[Sequence[Row]]) -> int:
    from rich.console import Console
    from rich.live import Live as Screen

    console = Console()
    with Screen(console=console, auto_refresh=False) as screen:
        for rows in looks:
            screen.update(_table(rows, live, console.height), refresh=True)
    return 0


def _table(rows: Sequence[Row], live: Live, height: int) -> Any:
    """Returns the rows that fit, those that train first, over a line that counts them all."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in TITLES:
        table.add_column(title, justify="left" if title in ("run", "status") else "right", no_wrap=True)
    fitting = sorted(rows, key=lambda row: ORDER.index(row.run.state))[: max(height - 4, 1)]
    for row in fitting:
        table.add_row(*map(Text, cells(row)))
    hidden = f" ({len(rows) - len(fitting)} not shown)" if len(fitting) < len(rows) else ""
    return Group(table, Text(summary(rows) + hidden), *(Text(f"cannot be read: {line}") for line in live.damaged[:3]))
