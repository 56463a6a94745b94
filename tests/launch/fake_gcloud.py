"""Stands for gcloud on the PATH: keeps queued resources as files, in the states that a test gives them.

The folder FAKE_GCLOUD holds requests/NAME.json, log (a JSON line a call), and, where the test puts them there, the
files no-credentials, no-answer, refuse and keep, which say what fails. With FAKE_GCLOUD_COMMAND (JSON) a request is a
local process: active while it lives, suspended when it is dead.
"""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys

HOME = pathlib.Path(os.environ["FAKE_GCLOUD"])
REQUESTS = HOME / "requests"


def fail(text):
    """Ends as gcloud does."""
    print(f"ERROR: (gcloud) {text}", file=sys.stderr)
    sys.exit(1)


def lives(pid):
    """Whether the process lives; a zombie does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def create(name, options):
    """Makes a request, and keeps the start-up script that came with it."""
    if (HOME / "refuse").exists():
        fail((HOME / "refuse").read_text())
    script = pathlib.Path(options["metadata-from-file"].partition("startup-script=")[2]).read_text()
    entry = {"name": f"projects/{options['project']}/locations/{options['zone']}/queuedResources/{name}",
             "createTime": datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z"),
             "state": {"state": "WAITING_FOR_RESOURCES"}, "script": script}
    if command := os.environ.get("FAKE_GCLOUD_COMMAND"):
        with open(HOME / f"{name}.output", "w") as output:
            process = subprocess.Popen(json.loads(command), stdout=output, stderr=output, start_new_session=True)
        entry["pid"] = process.pid
    REQUESTS.mkdir(exist_ok=True)
    (REQUESTS / f"{name}.json").write_text(json.dumps(entry))


def listing():
    """Returns every request as gcloud's JSON has it."""
    entries = [json.loads(path.read_text()) for path in sorted(REQUESTS.glob("*.json"))]
    for entry in entries:
        if "pid" in entry:
            entry["state"]["state"] = "ACTIVE" if lives(entry["pid"]) else "SUSPENDED"
    return entries


def delete(name):
    """Takes a request out, and ends its process."""
    path = REQUESTS / f"{name}.json"
    if (HOME / "keep").exists():
        fail(f"INTERNAL: {name}")
    if not path.exists():
        fail(f"NOT_FOUND: {name}")
    pid = json.loads(path.read_text()).get("pid")
    if pid and lives(pid):
        os.kill(pid, signal.SIGTERM)
    path.unlink()


def main(words):
    """Does what the words say."""
    with open(HOME / "log", "a") as log:
        log.write(json.dumps(words) + "\n")
    if words[:2] == ["auth", "print-access-token"]:
        if (HOME / "no-credentials").exists():
            fail("You do not currently have an active account selected.")
        print("token")
        return
    assert words[:3] == ["compute", "tpus", "queued-resources"], words
    if (HOME / "no-answer").exists():
        fail("the service does not answer")
    action, *rest = words[3:]
    options = dict(word[2:].split("=", 1) for word in rest if word.startswith("--") and "=" in word)
    if action == "list":
        print(json.dumps(listing()))
    else:
        {"create": lambda: create(rest[0], options), "delete": lambda: delete(rest[0])}[action]()


if __name__ == "__main__":
    main(sys.argv[1:])
