#!/usr/bin/env bash
# The five experiments, one after the other, then the table of results.
#
#   ./experiments.sh                            # into runs/vanilla, runs/zero, ...
#   ./experiments.sh --epochs 40                # extra arguments go to every run
#   RUNS=runs/seed1 ./experiments.sh --seed 1   # into another directory
#   PYTHON=python3.12 ./experiments.sh          # by another Python
#
# Started again after an interruption, it finishes what is missing and repeats nothing.
set -euo pipefail

here=$(dirname "$0")
RUNS=${RUNS:-runs}
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=python3
    [[ -x $here/.venv/bin/python ]] && PYTHON=$here/.venv/bin/python
fi

# A script runs in the background, because only then does bash answer a signal at once.
pid=
run() { "$PYTHON" "$here/$1" "${@:2}" & pid=$!; wait "$pid"; }
stop() {
    trap '' INT TERM
    kill "$pid" 2> /dev/null || true
    wait
    exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM

run train.py --resume --log-dir "$RUNS/vanilla" "$@"
run train.py --resume --log-dir "$RUNS/zero" --init zero "$@"
run train.py --resume --log-dir "$RUNS/xavier" --init xavier "$@"
run train.py --resume --log-dir "$RUNS/xavier-augment" --init xavier --augment "$@"
run train.py --resume --log-dir "$RUNS/xavier-augment-dropout" --init xavier --augment --dropout 0.5 "$@"

run evaluate.py "$RUNS"
