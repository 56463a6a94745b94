"""What `import scaling` may load."""

import subprocess
import sys

HEAVY = ("jax", "jaxlm", "flax", "orbax", "pandas", "rich", "matplotlib", "scipy.optimize", "scipy.signal")


def test_importing_scaling_loads_nothing_heavy():
    loaded = f"print([m for m in {HEAVY!r} if m in sys.modules])"
    code = f"import sys, scaling, scaling.plots, scaling.cli; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
