"""Run train.py on the made-up data set: python tests/child.py --data-dir DIR FLAGS

Python modules that only Unix has are missing, as on Windows.
"""

import os
import runpy
import sys
from pathlib import Path

# These libraries may need Unix's modules, so they are imported while the modules are there.
import torch.utils.tensorboard  # noqa: F401
import torchvision  # noqa: F401

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path[:0] = [str(ROOT), str(TESTS)]
import conftest

# conftest has imported the project's modules. Forget them, so that they are imported again below.
for name, module in list(sys.modules.items()):
    if Path(getattr(module, "__file__", None) or "/").parent == ROOT:
        del sys.modules[name]
for module in "fcntl", "grp", "pwd", "resource", "termios":
    sys.modules[module] = None  # an import raises ImportError
for function in "fork", "getuid":
    delattr(os, function)

import data
import download

download.FILES = conftest.HASHES
data.VAL_SIZE = conftest.VAL_SIZE

sys.argv[0] = str(ROOT / "train.py")
runpy.run_path(sys.argv[0], run_name="__main__")
