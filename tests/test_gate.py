"""What .ci/run promises: it runs the README's commands, and it fails if anything fails."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import README, ROOT, make_script

GATE = ROOT / ".ci" / "run"
(HASH,) = re.findall("[0-9a-f]{40}", GATE.read_text(encoding="utf-8"))
FAKE_COMMAND = """#!/bin/sh
# Notes how it is called. With -c it stands for the README's command that prints a hash.
echo "$(basename "$0") $*" >> calls
[ "$1" = -c ] && echo "$HASH"
# The exit code: 1 if as many calls are noted as $FAIL_AT says. (Some wc print spaces, too.)
[ "$FAIL_AT" != "$(wc -l < calls | tr -d ' ')" ]
"""
CALLS = ["shellcheck experiments.sh .ci/run", "python3 -m venv .venv",
         "pip install -r requirements.txt", "python -m pytest", "pip install -q ruff",
         "ruff check .", "python download.py", "python -c the riddle", "python -m pytest -m slow"]


@pytest.fixture
def gate(home, monkeypatch):
    """A function that runs the gate with commands that do nothing; it returns code and calls."""
    (home / ".ci").mkdir()
    shutil.copy(GATE, home / ".ci")
    (home / "README.md").write_text("python -c the riddle\n")
    for directory, names in {"bin": ["shellcheck", "python3"],
                             ".venv/bin": ["pip", "python", "ruff"]}.items():
        for name in names:
            make_script(home / directory / name, FAKE_COMMAND)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")

    def run_gate(fail_at: int = 0, answer: str = HASH) -> SimpleNamespace:
        environment = os.environ | {"FAIL_AT": str(fail_at), "HASH": answer}
        done = subprocess.run([home / ".ci" / "run"], env=environment, timeout=60)
        return SimpleNamespace(code=done.returncode, calls=Path("calls").read_text().splitlines())

    return run_gate


def test_ci_lints_and_tests_also_on_the_real_data(gate):
    done = gate()
    without_version = [call.partition("==")[0] for call in done.calls]
    assert without_version == CALLS
    assert done.code == 0


@pytest.mark.parametrize("number", range(1, len(CALLS) + 1), ids=lambda n: CALLS[n - 1])
def test_ci_ends_at_the_first_failure(number, gate):
    done = gate(fail_at=number)
    assert len(done.calls) == number
    assert done.code != 0


def test_ci_fails_if_the_test_images_have_another_hash(gate):
    done = gate(answer=HASH[::-1])
    assert done.code != 0


def test_the_readme_names_the_hash_that_ci_expects():
    assert f"`{HASH[:8]}…`, as this line prints" in README


@pytest.mark.parametrize("beginning", ["python3 -m venv", "python -m pytest"])
def test_ci_installs_and_tests_as_the_readme_says(beginning):
    (command,) = re.findall(f"^{beginning}.*", README, re.MULTILINE)
    lines = GATE.read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(command) for line in lines), f".ci/run lacks {command}"


# What the gate installs, and what it leaves out unless it is asked


@pytest.mark.parametrize("package", ["torch", "torchvision", "tensorboard", "pytest"])
def test_the_requirements_contain_each_package(package):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert package in [re.match("[a-z]*", line).group() for line in lines]


def test_pytest_leaves_out_the_tests_marked_slow(pytestconfig):
    assert "not slow" in pytestconfig.getini("addopts")
