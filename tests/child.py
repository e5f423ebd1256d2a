"""Run train.py on the made-up files: python tests/child.py FLAGS

Python modules that only Unix has are missing, as on Windows.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401 (with all that may need Unix's modules by itself)
import torchvision  # noqa: F401

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
import conftest
import data
import download

download.FILES = conftest.HASHES
data.VAL_SIZE = conftest.VAL_SIZE
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job does not have
for module in "fcntl", "pwd", "resource":
    sys.modules[module] = None
del os.fork, os.getuid

train_py = conftest.ROOT / "train.py"
sys.argv[0] = str(train_py)
runpy.run_path(str(train_py), run_name="__main__")
