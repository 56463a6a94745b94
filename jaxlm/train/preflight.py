"""What hosts compare before the first update: a difference here would make a wrong run, or one that hangs.

Compared are package versions, the revision of the source, the configuration, the corpus, the first sequences
of batch 0 and the clocks. Nothing of it needs a device (`jaxlm.train.agreement`).
"""

import collections
import hashlib
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxlm import config as configs
from jaxlm.config import ConfigError
from jaxlm.train import agreement, hosts
from jaxlm.train.conditions import source_revision, versions
from jaxlm.train.config import RunConfig
from jaxlm.train.hosts import HostsError

SEQUENCES = 64  # of batch 0 are compared, those of the whole batch where it has fewer
SKEW = 5.0  # seconds that clocks may differ
SHOWN = 4  # differences in a line


def preflight(config: RunConfig, datasets: Sequence[Any], *, stop_at: int | None = None) -> None:
    """Compares the hosts of a run; with one host it does nothing.

    Args:
      config: the run, as this host has it.
      datasets: the opened data of the run, then of each of `evaluation.sources`.
      stop_at: the update to stop after, as this host was told.

    Raises the same error on all hosts, naming the host that differs and the values: `HostsError` for the
    environment (versions, source, clocks), else `ConfigError`.
    """
    team = hosts.team()
    if team is None:
        return
    environment = {"source revision": source_revision()[:12], **versions()}
    run = {"--hosts": team.config.count, "--stop-at": stop_at,
           "configuration hash": configs.config_hash(configs.to_dict(config))}
    tokens = datasets[0].batch(0, min(config.batch, SEQUENCES))
    data = {"corpus digest": [each.digest[:12] for each in datasets],
            "first batch": hashlib.sha256(tokens.tobytes()).hexdigest()[:12]}
    agreement.barrier("ready")
    now = time.time()
    found = agreement.exchange("preflight", [environment, run, data, now])
    lines = differences([each[0] for each in found]) + skews([each[3] for each in found])
    _raise_together(HostsError, lines)
    lines = differences([each[1] for each in found])
    if any("configuration hash" in line for line in lines):
        named = differences(agreement.exchange("configuration", _fields(configs.to_dict(config))))
        # The hash stays where no field says it better: nothing against None, say.
        lines = [line for line in lines if not named or "configuration hash" not in line] + named
    _raise_together(ConfigError, lines + differences([each[2] for each in found]))


def check_devices(mesh: Mesh) -> None:
    """Raises the same error on all hosts where one has no device in the mesh, or devices of another kind."""
    team = hosts.team()
    if team is None:
        return
    devices, used = jax.devices(), {device.process_index for device in mesh.devices.flat}
    idle = [f"host {index} has no device in the mesh {tuple(mesh.devices.shape)}; the hosts have "
            f"{len(devices)} devices in all" for index in range(team.config.count) if index not in used]
    _raise_together(ConfigError, idle)
    kinds = [{"device": next(d.device_kind for d in devices if d.process_index == index)}
             for index in range(team.config.count)]
    _raise_together(HostsError, differences(kinds))


def differences(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each fact in which a host differs from most of them.

    Args:
      facts: those of each host, by index. Where no value has the most hosts, that of the first one counts.
    """
    lines = []
    for key in dict.fromkeys(key for each in facts for key in each):
        values = [repr(each.get(key)) for each in facts]
        usual = collections.Counter(values).most_common(1)[0][0]
        lines += [f"host {index} has {key} = {value}, host {values.index(usual)} has {usual}"
                  for index, value in enumerate(values) if value != usual]
    return lines


def skews(clocks: Sequence[float]) -> list[str]:
    """Returns a line for each host whose clock is off by more than `SKEW` seconds from the middle one."""
    middle = statistics.median_low(clocks)
    return [f"host {index} has its clock {clock - middle:+.1f} s from host {clocks.index(middle)}'s"
            for index, clock in enumerate(clocks) if abs(clock - middle) > SKEW]


def _fields(tree: Any, name: str = "") -> dict[str, Any]:
    """Returns {dotted name: value} of a configuration."""
    if not isinstance(tree, dict):
        return {name: tree}
    return {dotted: value for key, child in tree.items()
            for dotted, value in _fields(child, f"{name}.{key}" if name else key).items()}


def _raise_together(kind: type[Exception], lines: Sequence[str]) -> None:
    """Raises one line where there are some; all hosts do."""
    if lines:
        hosts.end_together()
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise kind(f"hosts differ: {'; '.join(lines[:SHOWN])}{more}")
