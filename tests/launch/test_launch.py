"""What is launched: the committed manifests, xpk's own word for its command, and what is refused."""

import pathlib
import subprocess

import launch_study
import pytest
import yaml
from golden_jobs import LAUNCHES, MANIFESTS, OUT, XPK, run_job, study_job

import jaxlm.cli
from jaxlm.cli.launch import _job_name
from jaxlm.config import ConfigError
from jaxlm.launch.job import RESTARTS, Job, render, shell_line
from jaxlm.launch.queued_resources import Attempt, parse_list
from jaxlm.launch.slices import find_slice
from jaxlm.launch.slurm_script import SlurmOptions, slurm_launch
from jaxlm.launch.xpk import FINAL, jobset, xpk_launch

HERE = pathlib.Path(__file__).parent
STUDY = "tests/launch/launch_study.py"
QUEUED = f"launch {STUDY} --slice v5e-16 --with queued --mesh.data=16"
GIVEN = f"{QUEUED} --out gs://bucket/runs --project p --zone z --code gs://bucket/jaxlm.tar.gz"
XPK_GIVEN = QUEUED.replace("queued", "xpk") + " --out gs://bucket/runs --project p --zone z --cluster c --image i"
SLURM = f"launch {STUDY}:spot --slice h100-8 --with slurm --mesh.data=8 --out runs"


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_launch_is_the_committed_one(name):
    text = render(LAUNCHES[name]())
    assert text == (MANIFESTS / name).read_text(), "if this is meant: python tests/launch/golden_jobs.py"


def xpk_says(name):
    """The log of xpk's own dry run, and the JobSet in it."""
    log = (MANIFESTS / f"{name}.log").read_text()
    body = log[log.index("apiVersion:"):log.index("[XPK] Task: `Creating Workload`")]
    return log, yaml.safe_load(body)


def slice_job(manifest):
    """Job template, pod and container of a JobSet."""
    job = manifest["spec"]["replicatedJobs"][0]
    pod = job["template"]["spec"]["template"]["spec"]
    return job, pod, pod["containers"][0]


@pytest.mark.parametrize("name", ["xpk-study", "xpk-multislice", "xpk-spot"])
def test_xpk_accepts_the_command_and_makes_our_jobset_of_it(name):
    log, theirs = xpk_says(name)
    ours = yaml.safe_load(LAUNCHES[f"{name}.txt"]().files["jobset.json"])
    assert "Exiting XPK cleanly" in log
    assert ours["metadata"] == theirs["metadata"] and ours["spec"].keys() == theirs["spec"].keys()
    assert ours["spec"]["failurePolicy"] == theirs["spec"]["failurePolicy"]
    (job, pod, container), (their_job, their_pod, their_container) = slice_job(ours), slice_job(theirs)
    assert job["replicas"] == their_job["replicas"]
    for key in ("parallelism", "completions", "backoffLimit"):
        assert job["template"]["spec"][key] == their_job["template"]["spec"][key], key
    selector = dict(pod.pop("nodeSelector"))
    selector.pop("cloud.google.com/gke-spot", None)  # xpk asks a live cluster whether it provisions spot nodes
    assert selector == their_pod["nodeSelector"]
    for key in pod.keys() - {"containers"}:
        assert pod[key] == their_pod[key], key
    for key in container.keys() - {"command"}:
        assert container[key] == their_container[key], key
    assert f"({' '.join(container['command'])}) & PID" in their_container["command"][-1]


def test_pods_start_again_after_the_same_exit_codes_by_xpk_and_by_our_jobset():
    _, theirs = xpk_says("xpk-study")
    rule = theirs["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    ours = jobset(study_job("v5e-16"), XPK)
    own = ours["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert rule["operator"] == "NotIn" and own == rule | {"operator": "In", "values": list(FINAL)}
    assert {*RESTARTS, 130, 137, 143} <= set(rule["values"]) and not set(FINAL) & set(rule["values"])


def test_the_logs_name_no_machine():
    for path in MANIFESTS.glob("*.log"):
        text = path.read_text()
        assert not any(word in text for word in ("/tmp/", "/root", "/home/", "/work/", "localhost")), path


def test_a_shell_takes_the_printed_command_apart_as_it_was():
    words = ["printf", r"%s\n", "--a=" + "b" * 80, "it's", "--command=two words", "$HOME"]
    assert "\n" in shell_line(words)
    done = subprocess.run(["sh", "-c", shell_line(words)], capture_output=True, text=True)
    assert done.stdout.splitlines() == words[2:]


def test_an_attempt_is_read_back_from_its_identifier():
    attempt = Attempt(number=12, fruitless=3, updates=40500)
    assert Attempt.parse(attempt.identifier("a-job"), "a-job") == attempt
    assert Attempt.parse(attempt.identifier("a-job"), "job") is None
    listed = '[{"name": "projects/p/locations/z/queuedResources/j-a1-f0-u0", "state": {"state": "ACTIVE"}},' \
             ' {"name": "projects/p/locations/z/queuedResources/other"}]'
    assert {a: r.state for a, r in parse_list(listed, "j").items()} == {Attempt(): "ACTIVE"}
    assert parse_list("", "j") == {}


def test_hosts_of_several_slices_count():
    job = run_job("v6e-256", slices=3)
    assert (job.hosts, job.cache) == (192, f"{OUT}/.cache/xla")


def run(line, capsys):
    """Runs the command line; returns (exit code, standard output, standard error)."""
    code = jaxlm.cli.main(line.split())
    said = capsys.readouterr()
    return code, said.out.replace(" \\\n   ", ""), said.err


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(HERE.parents[1])


def test_a_dry_run_prints_everything_and_needs_no_tool(tools, at_root, capsys):
    code, out, err = run(f"{GIVEN} --spot --dry-run", capsys)
    assert (code, err) == (0, "")
    assert "jaxlm study tests/launch/launch_study.py --executor emit --out gs://bucket/runs" in out
    assert "python -m jaxlm.launch.work gs://bucket/runs/spots/emit/runs.jsonl" in out
    assert "queued-resources create jaxlm-spots-a1-f0-u0" in out and "--spot" in out and "v5litepod-16" in out
    code, out, err = run(f"{SLURM} --sbatch partition=gpu --dry-run", capsys)
    assert (code, err) == (0, "") and "#SBATCH --partition=gpu" in out
    assert "jaxlm train tests/launch/launch_study.py:spot --out runs --mesh.data=8" in out
    code, out, err = run(f"{XPK_GIVEN} --dry-run", capsys)
    assert (code, err) == (0, "") and "--tpu-type=v5litepod-16" in out


def test_jobs_of_a_study_and_of_its_runs_have_names_of_their_own():
    def name(*words):
        return Job(name=_job_name(*words), command=("x",), where=find_slice("v5e-16"), out=OUT).name

    long = "a_study_with_a_name_of_many_words"
    names = [name("jaxlm", "quickstart"), name("jaxlm", "quickstart", "w48-s0-trunk"),
             name("jaxlm", "quickstart", "w48-s1-trunk"), name("jaxlm", long), name("jaxlm", long, "w8")]
    assert names[0] == "jaxlm-quickstart" and len(set(names)) == 5, names
    assert name("jaxlm", "s", "a" * 15 + "-" * 9 + "b" * 9).startswith("jaxlm-s-aaaaaaaaaaaaa-")


def test_babysitting_warns_of_runs_that_a_preemption_throws_back_to_their_start(at_root, capsys):
    line = f"{GIVEN.replace(STUDY, STUDY + ':spot')} --babysit --dry-run"
    assert run(line, capsys)[::2] == (0, "")
    code, _, err = run(f"{line} --checkpoint.every=0", capsys)
    assert code == 0
    assert err == "jaxlm: warning: checkpoint.every = 0 in run spot: what a preemption stops begins anew\n"


# (command line, exit code, words of the one line)
REFUSALS = [
    (GIVEN.replace("v5e-16", "v5e-17"), 2, "slice 'v5e-17': no such slice; nearest: v5e-16, v5e-32"),
    (GIVEN.replace("with queued", "with queue"), 2, "with = 'queue': must be one of queued, xpk, slurm; did you mean"),
    (GIVEN.replace("--project p ", ""), 2, "project = None: must be given: --project"),
    (GIVEN.replace("--zone z ", ""), 2, "zone = None: must be given: --zone"),
    (GIVEN.replace("gs://bucket/runs", "runs"), 2, "out = 'runs': must be a URL gs://BUCKET/..., for the hosts"),
    (GIVEN.replace("gs://bucket/runs", "s3://bucket/runs"), 2, "out = 's3://bucket/runs': must be a URL gs://"),
    (GIVEN.partition(" --code")[0], 2, "code = None: must be a URL gs://"),
    (f"{GIVEN} --mesh.data=8", 2, "has 8 devices, 1 x v5e-16 16: give --mesh.fsdp and others"),
    (f"{GIVEN} --num-slices 2 --mesh.data=32", 2, "mesh.replica = 1: must be divisible by num-slices = 2"),
    (f"{GIVEN} --num-slices 0", 2, "has 16 devices, 0 x v5e-16 0"),
    (f"{GIVEN} --model.width=16", 2, "--model.width: a study's runs take --mesh.* only"),
    (f"{GIVEN} --name Big_Job", 2, "name = 'Big_Job': must be at most 28 lower-case letters"),
    (f"{GIVEN} --image i", 2, "--image: not an option of --with queued"),
    (f"{GIVEN} --poll 3", 2, "--poll: goes with --babysit"),
    (f"{GIVEN} --babysit --attempts 0", 2, "attempts = 0: must be at least 1"),
    (GIVEN.replace("v5e-16", "h100-8").replace("=16", "=8"), 2, "slice = 'h100-8': Cloud TPU lends TPU slices"),
    (GIVEN.replace(STUDY, "/elsewhere/study.py:run"), 2, "must lie in the tree that the hosts are given"),
    (XPK_GIVEN.replace(" --cluster c", ""), 2, "cluster = None: must be given: --cluster"),
    (XPK_GIVEN.replace("v5e-16", "v5e-4").replace("=16", "=4"), 2, "slice = 'v5e-4': xpk has v5e slices from v5e-8 on"),
    (SLURM.replace("h100-8", "v5e-8"), 2, "slice = 'v5e-8': Slurm lends GPU nodes"),
    (f"{SLURM} --sbatch partition", 2, "sbatch = 'partition': must be NAME=VALUE"),
    (GIVEN, 1, "gcloud is not installed (cloud.google.com/sdk/docs/install); nothing was created"),
    (XPK_GIVEN, 1, "xpk is not installed (pip install xpk, into an environment of its own); nothing was created"),
    (SLURM, 1, "sbatch is not installed (launch from a login node of the cluster); nothing was created"),
]


@pytest.mark.parametrize(("line", "code", "words"), REFUSALS, ids=range(len(REFUSALS)))
def test_what_cannot_be_launched_is_refused_in_one_line(line, code, words, tools, at_root, capsys):
    found, out, err = run(line, capsys)
    assert (found, out) == (code, "") and words in err and len(err.splitlines()) == 1, err


def test_missing_credentials_are_told_before_anything_is_created(gcloud, at_root, capsys):
    gcloud.switch("no-credentials", "")
    code, _, err = run(GIVEN, capsys)
    assert code == 1 and "no Google Cloud credentials: gcloud auth login; nothing was created" in err
    assert len(err.splitlines()) == 1 and gcloud.calls("create") == [] and gcloud.requests() == {}


def test_a_launch_makes_the_request_with_its_start_up_script(gcloud, at_root, capfd):
    line = GIVEN.replace(STUDY, f"{STUDY}:spot") + " --spot --internal-ips"
    assert jaxlm.cli.main(line.split()) == 0
    name = f"jaxlm-spots-{launch_study.study().runs[0].folder}-a1-f0-u0"
    assert gcloud.requests() == {name: "WAITING_FOR_RESOURCES"}
    (words,) = gcloud.calls("create")
    assert {"--spot", "--internal-ips", "--accelerator-type=v5litepod-16", f"--node-id={name}"} <= {*words}
    kept = (gcloud.home / "requests" / f"{name}.json").read_text()
    assert f"jaxlm train {STUDY}:spot --out gs://bucket/runs --mesh.data=16" in kept
    gcloud.switch("refuse", "quota exceeded")
    assert jaxlm.cli.main(line.split()) == 1
    assert "gcloud ended with code 1" in capfd.readouterr().err


def test_gpu_nodes_and_pods_are_not_mixed_up():
    with pytest.raises(ConfigError, match="GKE lends TPU slices"):
        xpk_launch(run_job("h100-8"), XPK)
    assert find_slice("h100-8").compiler_name is None
    assert "--nodes=2" in slurm_launch(run_job("h100-8", slices=2), SlurmOptions()).files["job.sbatch"]
