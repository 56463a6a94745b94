"""GKE: the `xpk workload create` command of a job, and the JobSet that it amounts to, for `kubectl apply`.

xpk needs a cluster that it has made (`xpk cluster create`). Names of accelerators in GKE:
docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus; the JobSet is held against xpk's own dry run by a test.
"""

import dataclasses
import json
import shlex
from typing import Any

from jaxlm.config import require
from jaxlm.launch import job as jobs
from jaxlm.launch.job import RESTARTS, Job, Launch

ACCELERATORS = {"v4": "tpu-v4-podslice", "v5e": "tpu-v5-lite-podslice", "v5p": "tpu-v5p-slice", "v6e": "tpu-v6e-slice"}
JOBSET = "jobset.json"
# Pods start again after RESTARTS and where they were killed; a mistake of the user's, and one run that diverged, end
# the job. A study goes on past runs that diverged and what starts from them, and so never ends with 3.
FINAL = (2, 3)
_UNKNOWN_TO_XPK = ("v5e-1", "v5e-4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class XpkOptions:
    """The cluster and the image.

    Attributes:
      project: Google Cloud project.
      zone: the cluster's.
      cluster: its name.
      image: container image with the tree of jaxlm as its working folder (tpu_setup/Dockerfile).
      spot: ask for spot nodes, where the cluster provisions nodes by itself.
      max_restarts: how often the JobSet is started again after preemptions and failures of nodes.
      grace: seconds between SIGTERM and the end of a pod, for a last checkpoint.
    """

    project: str
    zone: str
    cluster: str
    image: str
    spot: bool = False
    max_restarts: int = 50
    grace: int = 120

    def __post_init__(self) -> None:
        jobs.require_given(project=self.project, zone=self.zone, cluster=self.cluster, image=self.image)


def xpk_launch(job: Job, options: XpkOptions) -> Launch:
    """Returns the command of xpk, and beside it the JobSet; raises `ConfigError` where it cannot be made."""
    jobs.require_tpu(job, "GKE")
    jobs.require_bucket(job.out, "out")
    require(job.where.name not in _UNKNOWN_TO_XPK, "slice", job.where.name, "xpk has v5e slices from v5e-8 on")
    create = (
        "xpk", "workload", "create", f"--workload={job.name}", f"--project={options.project}", f"--zone={options.zone}",
        f"--cluster={options.cluster}", f"--tpu-type={job.where.accelerator_type}", f"--num-slices={job.slices}",
        *(["--spot"] if options.spot else []), f"--max-restarts={options.max_restarts}",
        f"--restart-on-exit-codes={','.join(map(str, RESTARTS))}",
        f"--termination-grace-period-seconds={options.grace}", f"--docker-image={options.image}",
        f"--env=JAX_COMPILATION_CACHE_DIR={job.cache}", f"--command={shlex.join(_host_command(job))}")
    note = f"{job.slices} x {job.where.name}: {job.where.chips * job.slices} chips, {_pods(job)[0] * job.slices} pods"
    return Launch(files={JOBSET: json.dumps(jobset(job, options), indent=2)}, commands=(*job.before, create),
                  notes=(note, f"{JOBSET} is for clusters without xpk: kubectl apply -f {JOBSET}"))


def jobset(job: Job, options: XpkOptions) -> dict[str, Any]:
    """Returns the JobSet of the job as data; JSON is YAML."""
    pods, chips = _pods(job)
    label = {"xpk.google.com/workload": job.name}
    codes = {"containerName": "jax-tpu", "operator": "In", "values": list(FINAL)}
    failed = {"action": "FailJob", "onPodConditions": [], "onExitCodes": codes}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "labels": {"kueue.x-k8s.io/queue-name": "multislice-queue", **label},
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "ttlSecondsAfterFinished": 43200,
            "failurePolicy": {"rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
                              "maxRestarts": options.max_restarts},
            "replicatedJobs": [{"name": "slice-job", "replicas": job.slices, "template": {"spec": {
                "parallelism": pods, "completions": pods, "backoffLimit": 0, "podFailurePolicy": {"rules": [failed]},
                "template": {"metadata": {"labels": label}, "spec": _pod(job, options, chips)},
            }}}],
        },
    }


def _pod(job: Job, options: XpkOptions, chips: int) -> dict[str, Any]:
    selector = {"cloud.google.com/gke-tpu-accelerator": ACCELERATORS[job.where.chip.generation],
                "cloud.google.com/gke-tpu-topology": job.where.topology}
    if options.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    container = {
        "name": "jax-tpu", "image": options.image, "command": _host_command(job),
        "env": [{"name": "JAX_COMPILATION_CACHE_DIR", "value": job.cache}], "securityContext": {"privileged": True},
        "resources": {"limits": {"google.com/tpu": chips}},
        "volumeMounts": [{"mountPath": "/dev/shm", "name": "dshm-2"}],
    }
    return {
        "restartPolicy": "Never", "nodeSelector": selector, "priorityClassName": "medium", "hostNetwork": True,
        "dnsPolicy": "ClusterFirstWithHostNet", "terminationGracePeriodSeconds": options.grace,
        "containers": [container],
        "tolerations": [{"operator": "Exists", "key": "google.com/tpu"}],
        "volumes": [{"name": "dshm-2", "emptyDir": {"medium": "Memory"}}],
    }


def _host_command(job: Job) -> list[str]:
    return ["bash", "tpu_setup/run_on_host.sh", "gke", *job.command]


def _pods(job: Job) -> tuple[int, int]:
    """Pods of a slice and chips of each: xpk's nodes have four chips also where a TPU VM would have eight."""
    chips = min(job.where.chips, 4)
    return job.where.chips // chips, chips
