"""The lesson on the real data: the five experiments, seed 0. Marked slow, it takes a minute."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import EXPERIMENTS, ROOT, checkpoint

STUDY = {"vanilla": 0.2477, "zero": 2.3027, "xavier": 0.2433, "xavier-augment": 0.3319,
         "xavier-augment-dropout": 0.5413}  # its final training losses


@pytest.mark.slow
def test_the_five_experiments_show_the_lesson(tmp_path):
    environment = os.environ | {"RUNS": str(tmp_path), "PYTHON": sys.executable}
    subprocess.run([ROOT / "experiments.sh"], env=environment, check=True)
    histories = {name: checkpoint(tmp_path / name)["history"] for name in EXPERIMENTS}
    assert [len(history) for history in histories.values()] == [20] * 5
    loss, test, mirrored = ({name: history[-1][tag] for name, history in histories.items()}
                            for tag in ("loss/train", "accuracy/test", "accuracy/mirrored"))
    vanilla, zero, xavier, augment, dropout = EXPERIMENTS
    assert test[zero] == mirrored[zero] == 0.1 and loss[zero] == pytest.approx(2.3026, abs=1e-4)
    assert loss == pytest.approx(STUDY, abs=0.05)
    assert loss[xavier] < loss[augment] < loss[dropout]
    assert test[xavier] > test[augment] > test[dropout]
    for name in vanilla, xavier:
        assert 0.870 < test[name] < 0.895 and test[name] - mirrored[name] >= 0.10
    for name in augment, dropout:
        assert test[name] - mirrored[name] <= 0.01
    events = [path.stat().st_size for path in tmp_path.glob("*/events*")]
    assert len(events) == 5 and max(events) < 5_000_000


@pytest.mark.slow
def test_the_command_of_the_riddle_names_the_official_test_images():
    command = re.search(r"^python -c .* git hash-object --stdin$", (ROOT / "README.md").read_text(
        encoding="utf-8"), re.MULTILINE)[0]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(command, shell=True, check=True, cwd=ROOT, stdout=subprocess.PIPE,
                          env=os.environ | {"PATH": path})
    assert done.stdout == b"7d1299bf2cec4ae5236e0a20d5ce254a30164e7c\n"
