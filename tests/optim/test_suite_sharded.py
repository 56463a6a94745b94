"""Every optimizer on eight forced devices, in one process of its own for them all; the bytes of its state."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from table import REPRESENTATIVE, TABLE

HERE = pathlib.Path(__file__).parent
WARNING = "Involuntary full rematerialization"  # tests/train/test_sharded.py shows that it would be seen
ENTRIES = [pytest.param(entry, id=entry.name, marks=() if entry.name in REPRESENTATIVE else pytest.mark.slow)
           for entry in TABLE]


@pytest.fixture(scope="module")
def found(request):
    """What `sharded.py` found, by entry, of those that are asked for."""
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    names = sorted({item.callspec.params["entry"].name for item in here if "entry" in item.callspec.params})
    path = os.pathsep.join(map(str, (HERE, HERE / "twins", HERE.parents[1])))
    env = os.environ | {"PYTHONPATH": path, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu",
                        "TF_CPP_MIN_LOG_LEVEL": "1"}
    done = subprocess.run([sys.executable, str(HERE / "sharded.py"), *names], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    parts = re.split(r"^entry (\S+)$", done.stderr, flags=re.MULTILINE)
    warnings = {name: [line for line in text.splitlines() if WARNING in line]
                for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return {name: got | {"warnings": warnings[name]} for name, got in json.loads(done.stdout.splitlines()[-1]).items()}


def result(found, entry, check):
    got = found[entry.name]
    assert "error" not in got, got["error"]
    return got[check]


@pytest.mark.parametrize("entry", ENTRIES)
def test_jit_of_init_places_the_state_like_the_parameters(found, entry):
    assert result(found, entry, "misplaced at init") == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_updates_leave_the_state_where_it_is(found, entry):
    assert result(found, entry, "misplaced after an update") == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_eight_devices_equal_one(found, entry):
    off = result(found, entry, "off")
    assert max(off.values()) <= entry.tolerance(next(iter(entry.cases))), off


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_compiler_gathers_no_whole_array_without_being_asked(found, entry):
    assert result(found, entry, "warnings") == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_state_bytes_are_exact(found, entry):
    got = result(found, entry, "bytes")
    assert got["computed"] == got["real"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_explicit_mesh_works_or_is_refused_in_one_line(found, entry):
    got = result(found, entry, "explicit")
    if isinstance(got, str):
        assert got.startswith("ConfigError: "), got
        assert "\n" not in got, got
    else:
        assert max(got.values()) <= entry.tolerance(next(iter(entry.cases))), got
