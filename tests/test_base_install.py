"""The ground packages in a real environment that holds the base install and nothing else.

Run with `make test-base`; it needs the package registry.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import importlib.util
import jax, jax.numpy as jnp, numpy as np, optax
from jaxlm import losses, optim, params, schedules
import scaling
for name in ("flax", "orbax", "grain", "tensorstore", "matplotlib", "pandas", "pyarrow", "rich"):
    assert importlib.util.find_spec(name) is None, name
tx = optax.adamw(schedules.wsd(20, decay=4, peak_lr=1e-2, warmup=2))
tree = {"w": jnp.ones((3, 3))}
state = tx.init(tree)
updates, state = tx.update({"w": jnp.ones((3, 3))}, state, tree)
assert float(jnp.abs(updates["w"]).max()) > 0
n, d = (x.ravel() for x in np.meshgrid([1e6, 1e7, 1e8], [1e8, 1e9, 1e10]))
fit = scaling.fit("chinchilla", {"N": n, "D": d, "loss": 1.7 + 400 / n**0.34 + 400 / d**0.28},
                  unit="nats/token", counting="total")
assert abs(fit.params["alpha"] - 0.34) < 1e-3, fit.params
"""


@pytest.mark.base_install
def test_ground_packages_need_the_base_install_only(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    source = tmp_path / "source"  # a copy, for building leaves files behind
    for package in ("jaxlm", "scaling"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", source], check=True)
    done = subprocess.run([python, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plot = subprocess.run([tmp_path / "venv" / "bin" / "scaling", "plot", "x.json", "--out", "x.png"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert plot.returncode == 2 and plot.stderr.count("\n") == 1, plot.stderr
    train = subprocess.run([tmp_path / "venv" / "bin" / "jaxlm", "data", "info"], cwd=tmp_path, capture_output=True,
                           text=True)
    assert train.returncode == 1 and "pip install 'jaxlm[train]'" in train.stderr, train.stderr
    assert sys.version_info >= (3, 11)
