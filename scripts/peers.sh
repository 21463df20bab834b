#!/usr/bin/env bash
# Environments of other projects' packages, which the tests speak and compare with: one under .venv-peers/ for each
# requirements/peers-*.txt, or for those named (bash scripts/peers.sh trl). None of them enters Ferrule's own
# environment. Does nothing when they are there already.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
mkdir -p .venv-peers
exec 9>.venv-peers/.lock
flock 9 # several test processes may come here at once

if [ $# -eq 0 ]; then
    wanteds=(requirements/peers-*.txt)
else
    wanteds=("${@/#/requirements/peers-}")
    wanteds=("${wanteds[@]/%/.txt}")
fi

for wanted in "${wanteds[@]}"; do
    name=$(basename "$wanted" .txt)
    place=.venv-peers/${name#peers-}
    cmp -s "$wanted" "$place/.ready" && continue
    echo "setting up $place"
    rm -rf "$place"
    "$python" -m venv "$place"
    # Twice quiet: errors only. Warnings would name the package index that this machine is set up with.
    # shellcheck disable=SC2086 # options are words
    "$place/bin/python" -m pip install --quiet --quiet --disable-pip-version-check ${TORCH_OPTIONS:-} \
        --no-deps --requirement "$wanted"
    cp "$wanted" "$place/.ready"
done
