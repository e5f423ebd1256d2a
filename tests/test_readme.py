import re
import shlex
from pathlib import Path

import pytest

import train
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [*re.findall(r"python (train\.py[^`\n]*)", README), "train.py"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_training_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) > 8
    if "--help" not in command:
        assert train.parse_args(shlex.split(command)[1:])


def test_every_file_that_is_named_exists_and_the_gate_runs_the_first_commands():
    names = re.findall(r"\]\(([^)#]+)\)|`(?:\./)?([\w/]+\.(?:py|sh|txt|md))`", README)
    names = [link or file for link, file in names if "://" not in link]
    assert len(names) > 10 and [name for name in names if not Path(ROOT, name).exists()] == []
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in re.findall(r"^(python3 -m venv .*|.* -m pytest)$", README, re.MULTILINE):
        assert f"\n{command}\n" in gate
    for name, lines in re.findall(r"`(\w+\.py)` \((\d+)", README):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) == int(lines)
