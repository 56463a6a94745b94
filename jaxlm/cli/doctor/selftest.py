"""A tiny run, trained again and stopped half-way, held against itself bit for bit."""

import dataclasses
import tempfile
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTest:
    """How the runs differed: lines of `scaling.record.equal`, or the error that ended the test."""

    repeated: tuple[str, ...] = ()
    resumed: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


UPDATES, STOP = 4, 2


def self_test() -> SelfTest:
    """Trains one tiny run twice straight and once with a stop and a restore; returns the differences."""
    from jaxlm import data
    from jaxlm.model import ModelConfig
    from jaxlm.train import RunConfig, train
    from scaling import record

    text = data.DataConfig(sources=(data.Synthetic(vocabulary=16, order=1, seed=0, tokens=2000),), sequence=8)
    config = RunConfig(
        name="doctor", updates=UPDATES, batch=4, chunk=STOP, data=text,
        model=ModelConfig(vocabulary=16, sequence=8, layers=1, width=16, heads=2, ff=16, tied=True))
    config = config.replace(evaluation=dataclasses.replace(config.evaluation, sequences=8))
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            data.prepare_all(text, root / "data")
            for name, stops in (("straight", ()), ("again", ()), ("stopped", (STOP,))):
                for stop_at in (*stops, None):
                    train(config, root / name, root / "data", stop_at=stop_at)
            straight, again, stopped = (record.read(root / name / config.folder)
                                        for name in ("straight", "again", "stopped"))
        except Exception as error:  # whatever it is, it is what the doctor was asked for
            return SelfTest(error=f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
        return SelfTest(repeated=tuple(record.equal(straight, again)),
                        resumed=tuple(record.equal(straight, stopped)),
                        seconds=time.perf_counter() - started)
