"""Every testbed, one after another; exits with 1 if a prediction did not come true.

    python experiments/testbeds/all.py [--out DIR]
"""

import pathlib
import subprocess
import sys

BEDS = ("noisy_quadratic", "logistic", "last_iterate", "matrix_factorization", "river_valley", "largest_rate")


def main() -> int:
    """Runs the scripts with the arguments given to this one."""
    here = pathlib.Path(__file__).parent
    codes = [subprocess.run([sys.executable, here / f"{bed}.py", *sys.argv[1:]]).returncode
             for bed in BEDS if (here / f"{bed}.py").exists()]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
