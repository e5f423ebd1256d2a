#!/bin/sh
# The five experiments, one after the other, then the table of results.
#
#   ./experiments.sh                            # into runs/vanilla, runs/zero, ...
#   ./experiments.sh --epochs 40                # extra arguments go to every run
#   RUNS=runs/seed1 ./experiments.sh --seed 1   # into another directory
#   PYTHON=python3.12 ./experiments.sh          # by another Python
#
# Started again after an interruption, it goes on where it was and repeats nothing.
set -eu

here=$(dirname "$(readlink -f "$0")")
[ -f "$here/train.py" ] || here=.  # job schedulers run a copy of this file
for argument in "$@"; do
    case $argument in
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;;
        --init* | --augment* | --dropout* | --log-dir*)
            echo "experiments.sh: error: ${argument%%=*} is set by each experiment; use train.py" >&2
            exit 2 ;;
    esac
done
for python in "$here/.venv/bin/python" "$here/.venv/Scripts/python.exe" python3; do
    [ -x "$python" ] && break
done
python=${PYTHON:-$python} runs=${RUNS:-runs}

"$python" "$here/train.py" "$@" --resume --log-dir "$runs/vanilla"
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/zero" --init zero
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier" --init xavier
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier-augment" --init xavier --augment
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier-augment-dropout" \
    --init xavier --augment --dropout 0.5

"$python" "$here/results.py" "$runs"
