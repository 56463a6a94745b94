"""Cloud TPU queued resources: a request for slices that waits in Google's queue, and what their hosts do then.

Every host runs a start-up script (as root, at each boot): it fetches the code, sets the host up, and starts the
command with the host's place. Nobody has to be logged in, and results go to object storage. The identifier of a
request says which attempt it is (see `Attempt`), so that whoever watches it needs no memory of its own.

Runtime versions: docs.cloud.google.com/tpu/docs/runtimes, states: docs.cloud.google.com/tpu/docs/queued-resources,
both read in 2026.
"""

import dataclasses
import json
import re
import shlex
from collections.abc import Sequence
from typing import Self

from jaxlm.launch import job as jobs
from jaxlm.launch.job import Job, Launch

RUNTIMES = {"v4": "tpu-ubuntu2204-base", "v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5",
            "v6e": "v2-alpha-tpuv6e"}
GCLOUD = ("gcloud", "compute", "tpus", "queued-resources")
STARTUP = "startup.sh"


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueuedOptions:
    """Where slices are asked for and what their hosts need.

    Attributes:
      project: Google Cloud project.
      zone: one that has such slices.
      code: gs:// URL of the source tree as .tar.gz, which every host unpacks.
      spot: ask for spot capacity: cheaper, and taken back at any time.
      service_account: whose rights the hosts have; None for the project's default.
      internal_ips: give the hosts no external address, of which a project has few; its network then needs Private
        Google Access for the bucket and Cloud NAT for the packages.
    """

    project: str
    zone: str
    code: str
    spot: bool = False
    service_account: str | None = None
    internal_ips: bool = False

    def __post_init__(self) -> None:
        jobs.require_given(project=self.project, zone=self.zone)
        jobs.require_bucket(self.code, "code")


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Attempt:
    """One request for the slices of a job; its identifier is JOB-aNUMBER-fFRUITLESS-uUPDATES.

    Attributes:
      number: 1 for the first.
      fruitless: how many attempts just before it added no update to the records.
      updates: what the records had when it was made, summed over the runs.
    """

    number: int = 1
    fruitless: int = 0
    updates: int = 0

    def identifier(self, name: str) -> str:
        """Returns the identifier of this attempt at the job `name`."""
        return f"{name}-a{self.number}-f{self.fruitless}-u{self.updates}"

    @classmethod
    def parse(cls, identifier: str, name: str) -> Self | None:
        """Returns the attempt that `identifier` names, None where it is none at the job `name`."""
        match = re.fullmatch(rf"{re.escape(name)}-a(\d+)-f(\d+)-u(\d+)", identifier)
        return cls(number=int(match[1]), fruitless=int(match[2]), updates=int(match[3])) if match else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What is known of a request.

    Attributes:
      state: as the cloud has it.
      created: when it was made, ISO 8601.
      reason: why it failed, or where the log of the host lies that ended.
      code: the exit code of a host that will do nothing more, None where there is none.
    """

    state: str
    created: str = ""
    reason: str = ""
    code: int | None = None


def queued_launch(job: Job, options: QueuedOptions, attempt: Attempt = Attempt()) -> Launch:
    """Returns the request for the slices of `job`; raises `ConfigError` where it cannot be made."""
    jobs.require_tpu(job, "Cloud TPU")
    jobs.require_bucket(job.out, "out")
    name = attempt.identifier(job.name)
    nodes = [f"--node-id={name}"] if job.slices == 1 else [f"--node-count={job.slices}", f"--node-prefix={name}"]
    account = [f"--service-account={options.service_account}"] if options.service_account else []
    create = (*GCLOUD, "create", name, *place(options), f"--accelerator-type={job.where.accelerator_type}",
              f"--runtime-version={RUNTIMES[job.where.chip.generation]}", *nodes, *(["--spot"] if options.spot else []),
              *account, *(["--internal-ips"] if options.internal_ips else []),
              f"--metadata-from-file=startup-script={{{STARTUP}}}")
    note = f"{job.slices} x {job.where.name}: {job.where.chips * job.slices} chips, {job.hosts} hosts"
    return Launch(files={STARTUP: startup_script(job, options, attempt)}, commands=(*job.before, create), notes=(note,))


def end_folder(job: Job, attempt: Attempt) -> str:
    """Returns where the hosts of a request leave, each in a file HOST.log, a line "CODE TIME" and the end of their log.

    They do so when they will do nothing more, though the slices are billed until they are deleted.
    """
    return f"{job.out.rstrip('/')}/.jobs/{attempt.identifier(job.name)}"


def startup_script(job: Job, options: QueuedOptions, attempt: Attempt = Attempt()) -> str:
    """Returns the script that each host runs at each boot."""
    return f"""\
#!/usr/bin/env bash
# Start-up script of the job {job.name}, by jaxlm launch. Its log: /var/log/jaxlm.log
set -euo pipefail
exec >>/var/log/jaxlm.log 2>&1
export HOME=/root JAX_COMPILATION_CACHE_DIR={shlex.quote(job.cache)}

try() {{ # a new host does not reach the network at once
  for _ in $(seq 10); do
    "$@" && return
    sleep 30
  done
  return 1
}}

# shellcheck disable=SC2329 # called by a trap
leave() {{ # whoever watches learns that nothing more will come from here
  {{ echo "$? $(date -u +%FT%TZ)"; tail -n 100 /var/log/jaxlm.log; }} >end.log
  try gcloud storage cp end.log {shlex.quote(end_folder(job, attempt))}/"$(uname -n)".log
}}

mkdir -p /opt/jaxlm
cd /opt/jaxlm
trap leave EXIT
trap 'trap - EXIT; exit 143' TERM # the host is taken away
try gcloud storage cp {shlex.quote(options.code)} code.tar.gz
tar -xzf code.tar.gz
try bash tpu_setup/setup_host.sh
# Hosts that have lost one another end with 75 or 1 and meet again; other codes would come again.
for start in $(seq 20); do
  code=0
  bash tpu_setup/run_on_host.sh tpu-vm {shlex.join(job.command)} || code=$?
  echo "$(date -u +%FT%TZ) start $start ended with $code"
  case $code in 75 | 1) sleep 30 ;; *) break ;; esac
done
exit "$code"
"""


def list_command(options: QueuedOptions) -> tuple[str, ...]:
    """Returns the command whose output `parse_list` takes."""
    return (*GCLOUD, "list", *place(options), "--format=json")


def delete_command(identifier: str, options: QueuedOptions) -> tuple[str, ...]:
    """Returns the command that gives a request and its slices back."""
    return (*GCLOUD, "delete", identifier, *place(options), "--force", "--quiet", "--async")


def place(options: QueuedOptions) -> Sequence[str]:
    """Returns the options that say where."""
    return (f"--project={options.project}", f"--zone={options.zone}")


def parse_list(text: str, name: str) -> dict[Attempt, Request]:
    """Returns the attempts at the job `name` from the JSON of `list_command`."""
    found = {}
    for entry in json.loads(text or "[]"):
        attempt = Attempt.parse(entry["name"].rpartition("/")[2], name)
        if attempt is not None:
            state = entry.get("state", {})
            failed = state.get("failedData", {}).get("error", {})
            found[attempt] = Request(state=state.get("state", "STATE_UNSPECIFIED"), created=entry.get("createTime", ""),
                                     reason=" ".join(failed.get("message", "").split()))
    return found
