"""The jobs whose launches are committed under tpu_setup/manifests; run as a program, writes them anew."""

import pathlib

from jaxlm.launch.job import Job, render
from jaxlm.launch.queued_resources import Attempt, QueuedOptions, queued_launch
from jaxlm.launch.slices import find_slice
from jaxlm.launch.slurm_script import SlurmOptions, slurm_launch
from jaxlm.launch.xpk import XpkOptions, xpk_launch

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "tpu_setup" / "manifests"
OUT = "gs://my-bucket/runs"


def study_job(name, **fields):
    """The quick-start study on a slice."""
    return Job(name="jaxlm-quickstart", where=find_slice(name), out=OUT,
               command=("python", "-m", "jaxlm.launch.work", f"{OUT}/quickstart/emit/runs.jsonl"),
               before=(("jaxlm", "study", "quickstart", "--executor", "emit", "--out", OUT,
                        "--option", "arguments=--mesh.data=8 --mesh.fsdp=2"),), **fields)


def run_job(name, *overrides, out=OUT, **fields):
    """One run of it."""
    return Job(name="one-run", where=find_slice(name), out=out,
               command=("jaxlm", "train", "quickstart:w48-s0-trunk", "--out", out, *overrides), **fields)


QUEUED = QueuedOptions(project="my-project", zone="us-west4-a", code="gs://my-bucket/jaxlm.tar.gz")
SPOT = QueuedOptions(project="my-project", zone="us-east5-b", code="gs://my-bucket/jaxlm.tar.gz", spot=True,
                     service_account="sweeps@my-project.iam.gserviceaccount.com")
IMAGE = "us-docker.pkg.dev/my-project/images/jaxlm"
XPK = XpkOptions(project="my-project", zone="us-east5-b", cluster="pods", image=IMAGE)
XPK_SPOT = XpkOptions(project="my-project", zone="us-east5-b", cluster="pods", image=IMAGE, spot=True)
SLURM = SlurmOptions(sbatch=("partition=gpu", "time=24:00:00"))

# File -> launch. The xpk ones are those whose JobSets xpk's own dry run is held against.
LAUNCHES = {
    "queued-study.txt": lambda: queued_launch(study_job("v5e-16"), QUEUED),
    "queued-multislice-spot.txt": lambda: queued_launch(
        run_job("v6e-256", "--mesh.replica=2", "--mesh.fsdp=256", slices=2), SPOT,
        Attempt(number=3, fruitless=1, updates=1200)),
    "xpk-study.txt": lambda: xpk_launch(study_job("v5e-16"), XPK),
    "xpk-multislice.txt": lambda: xpk_launch(
        run_job("v5p-128", "--mesh.replica=4", "--mesh.fsdp=64", slices=4), XPK),
    "xpk-spot.txt": lambda: xpk_launch(run_job("v6e-256", "--mesh.fsdp=256"), XPK_SPOT),
    "slurm-run.txt": lambda: slurm_launch(
        run_job("h100-8", "--mesh.replica=2", "--mesh.fsdp=8", out="/shared/runs", slices=2), SLURM),
}

if __name__ == "__main__":
    MANIFESTS.mkdir(exist_ok=True)
    for name, launch in LAUNCHES.items():
        (MANIFESTS / name).write_text(render(launch()), encoding="utf-8")
