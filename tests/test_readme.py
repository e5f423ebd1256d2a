import re
import shlex
from pathlib import Path

import pytest

import train
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"`?(python train\.py[^`\n#|]*)", README)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_training_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.parse_args(shlex.split(command)[2:])


def test_every_file_and_picture_that_is_named_exists_and_the_gate_runs_the_commands():
    assert len(COMMANDS) > 5
    links = re.findall(r"\]\(([^)#]+)\)", README)
    files = re.findall(r"`([\w/]+\.(?:py|sh|txt|md))`", README)
    missing = [name for name in links + files if "://" not in name and not Path(ROOT, name).exists()]
    assert not missing
    install, test = re.findall(r"^(\S.* -m pip install .*|\S+ -m pytest)$", README, re.MULTILINE)[:2]
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(command in gate for command in (install, test))
