#!/bin/sh
# The five experiments, one after the other, then the table of results.
#
#   ./experiments.sh                            # into runs/vanilla, runs/zero, ...
#   ./experiments.sh --epochs 40                # extra arguments go to every run
#   RUNS=seeds/1 ./experiments.sh --seed 1      # into another directory
#   PYTHON=python3.12 ./experiments.sh          # with another Python
#
# If it is interrupted, run it again: it continues where it stopped.
set -eu

here=$(dirname "$(readlink -f "$0")")
[ -f "$here/train.py" ] || here=.  # job schedulers run a copy of this file
for argument in "$@"; do
    case $argument in
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;;
        --log-dir*)
            echo "experiments.sh: error: each experiment has a --log-dir of its own;" \
                "put all of them elsewhere with RUNS=DIR ./experiments.sh" >&2
            exit 2 ;;
        --init* | --augment* | --dropout*)
            echo "experiments.sh: error: ${argument%%=*} is set by each experiment; use train.py" >&2
            exit 2 ;;
    esac
done

# The first Python that has torch: in the active environment, in .venv, in the system.
# (find_spec imports nothing, so this is quick.)
has_torch='import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
python=${PYTHON:-}
for candidate in ${VIRTUAL_ENV:+python} "$here/.venv/bin/python" \
    "$here/.venv/Scripts/python.exe" python3 python; do
    if [ -z "$python" ] && "$candidate" -c "$has_torch" 2> /dev/null; then
        python=$candidate
    fi
done
if [ -z "$python" ]; then
    echo "experiments.sh: error: found no Python with torch; install it:" \
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt" >&2
    exit 1
fi
runs=${RUNS:-runs}

"$python" "$here/train.py" "$@" --resume --log-dir "$runs/vanilla"
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/zero" --init zero
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier" --init xavier
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier-augment" --init xavier --augment
"$python" "$here/train.py" "$@" --resume --log-dir "$runs/xavier-augment-dropout" \
    --init xavier --augment --dropout 0.5

"$python" "$here/results.py" "$runs"
