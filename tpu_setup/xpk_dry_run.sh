#!/usr/bin/env bash
# Has xpk itself check the committed workloads: installs it into an environment of its own, hands it each command of
# tpu_setup/manifests/xpk-*.txt with --dry-run, and writes down what it says. Nothing is created, no credentials are
# needed.
#   bash tpu_setup/xpk_dry_run.sh [FOLDER]      FOLDER of the environment, default .xpk
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-.xpk}
version=1.16.0
if ! "$folder/bin/xpk" --help >/dev/null 2>&1; then
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet "xpk==$version"
fi
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
for manifest in tpu_setup/manifests/xpk-*.txt; do
  command=$(sed -n '/^xpk /,$p' "$manifest")
  # An empty home, and no counting of uses.
  HOME=$home TELEMETRY_ENABLED=false PATH=$PWD/$folder/bin:$folder/bin:$PATH \
    bash -c "$command --dry-run --skip-validation" >"${manifest%.txt}.log" 2>&1 </dev/null
  sed -i 's/ *$//' "${manifest%.txt}.log"
  echo "${manifest%.txt}.log: $(tail -n 1 "${manifest%.txt}.log")"
done
