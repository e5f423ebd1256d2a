import os
import signal
import subprocess
import time

import pytest

from conftest import ROOT, checkpoint
from test_train import EXPERIMENTS, scalars


@pytest.fixture
def experiments(launcher, data_dir, tmp_path):
    """Return a function that starts experiments.sh with the made-up data."""
    environment = os.environ | {"PYTHON": str(launcher), "RUNS": "my runs", "OMP_NUM_THREADS": "1"}

    def experiments(*arguments):
        command = [ROOT / "experiments.sh", "--data-dir", data_dir, *arguments]
        return subprocess.Popen(
            [str(word) for word in command], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # bash cannot answer a signal that was ignored when it started, as in a background job
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # noqa: PLW1509

    return experiments


def test_the_five_experiments_stop_at_a_signal_and_finish_when_started_again(experiments, tmp_path):
    flags = "--epochs", "10", "--seed", "5", "--batch-size", "100"
    process = experiments(*flags)
    while "my runs/zero: 79,510 parameters" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)  # the script alone gets it, as from `kill` or a scheduler
    start = time.monotonic()
    output, errors = process.communicate()
    assert process.returncode == 143 and time.monotonic() - start < 10
    assert errors.count("\n") == 1 and "--resume" in errors
    runs = tmp_path / "my runs"
    assert sorted(path.name for path in runs.iterdir()) == ["vanilla", "zero"]

    output, errors = experiments(*flags).communicate()
    assert errors == ""
    assert "my runs/vanilla: finished already, 10 epochs" in output
    assert sorted(path.name for path in runs.iterdir()) == sorted(EXPERIMENTS)
    assert len(list((runs / "vanilla").glob("events*"))) == 1  # nothing was repeated
    for name in EXPERIMENTS:
        saved = checkpoint(runs / name)
        assert saved["epoch"] == 10 and saved["flags"]["seed"] == 5 and saved["flags"]["batch_size"] == 100
        assert (saved["run"] == f"{name}-epochs10-batch-size100")
        assert [step for step, _ in scalars(runs / name)["loss/train"]] == list(range(1, 11))
    table = [line for line in output.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 5 and all(f"| {name} |" in "".join(table) for name in EXPERIMENTS)


@pytest.fixture
def recorded(recorder, tmp_path):
    """Return a function that runs experiments.sh and returns its exit code and recorded calls."""

    def recorded(*arguments, **environment):
        done = subprocess.run([ROOT / "experiments.sh", *arguments], cwd=tmp_path, check=False,
                              env=os.environ | environment)
        return done.returncode, recorder.read_text().splitlines()

    return recorded


def test_extra_arguments_go_to_every_run_and_the_table_comes_last(recorded):
    code, calls = recorded("--epochs", "40", "--data-dir", "a", RUNS="elsewhere")
    assert code == 0
    assert calls == [
        f"{ROOT}/train.py --resume --log-dir elsewhere/{' '.join([name, *flags])} --epochs 40 --data-dir a"
        for name, flags in EXPERIMENTS.items()] + [f"{ROOT}/evaluate.py elsewhere"]


def test_a_failing_run_ends_the_script(recorded):
    code, calls = recorded(FAIL_AT="3")
    assert code == 1 and len(calls) == 3 and "--log-dir runs/xavier " in calls[-1] + " "


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_run_starts_ends_the_script_at_once(experiments, number, code, tmp_path):
    process = experiments("--epochs", "100000")
    time.sleep(0.7)  # within the seconds of `import torch`
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code and not (tmp_path / "my runs").exists()
