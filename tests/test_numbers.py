"""The lesson on the real data: the five experiments, seed 0. Marked slow, it takes a minute."""

import os
import subprocess
import sys

import pytest

from conftest import EXPERIMENTS, ROOT, checkpoint

pytestmark = pytest.mark.slow
STUDY = {"vanilla": 0.2477, "zero": 2.3027, "xavier": 0.2433, "xavier-augment": 0.3319,
         "xavier-augment-dropout": 0.5413}  # its final training losses


def test_the_five_experiments_show_the_lesson(home):
    environment = os.environ | {"RUNS": str(home), "PYTHON": sys.executable}
    subprocess.run([ROOT / "experiments.sh"], env=environment, check=True)
    last = {name: checkpoint(name)["history"][-1] for name in EXPERIMENTS}
    loss, test, mirrored = ({name: metrics[tag] for name, metrics in last.items()}
                            for tag in ("loss/train", "accuracy/test", "accuracy/mirrored"))
    vanilla, zero, xavier, augment, dropout = EXPERIMENTS
    assert test[zero] == mirrored[zero] == 0.1 and loss[zero] == pytest.approx(2.3026, abs=1e-4)
    assert loss == pytest.approx(STUDY, abs=0.05)
    assert loss[xavier] < loss[augment] < loss[dropout]
    assert test[xavier] > test[augment] > test[dropout]
    for name in vanilla, xavier:
        assert 0.870 < test[name] < 0.895 and test[name] - mirrored[name] >= 0.10
    assert max(test[name] - mirrored[name] for name in (augment, dropout)) <= 0.01
    assert max(path.stat().st_size for path in home.glob("*/events*")) < 5_000_000
