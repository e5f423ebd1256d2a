"""Run train.py on the made-up files: python tests/child.py FLAGS

Python modules that only Unix has are missing, as on Windows.
"""

import os
import runpy
import sys
from pathlib import Path

# Imported while Unix's modules are there, since these libraries may need them.
import torch.utils.tensorboard  # noqa: F401
import torchvision  # noqa: F401

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
import conftest

for module in "train", "data", "download", "init", "log", "model":
    del sys.modules[module]  # imported by conftest; they are imported anew without Unix's modules
for module in conftest.UNIX_MODULES:
    sys.modules[module] = None  # an import raises ImportError
for function in conftest.UNIX_FUNCTIONS:
    delattr(os, function)

import data
import download

download.FILES = conftest.HASHES
data.VAL_SIZE = conftest.VAL_SIZE

train_py = conftest.ROOT / "train.py"
sys.argv[0] = str(train_py)
runpy.run_path(str(train_py), run_name="__main__")
