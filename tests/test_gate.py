"""What .ci/run promises: it runs the README's commands, and fails if anything fails. Plumbing."""

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
         "ruff check .", "python download.py", "python -c the puzzle", "python -m pytest -m slow"]


@pytest.fixture
def commands(directory) -> None:
    """A copy of the gate, and commands that do nothing in place of those that it runs."""
    (directory / ".ci").mkdir()
    shutil.copy(GATE, directory / ".ci")
    (directory / "README.md").write_text("python -c the puzzle\n")
    for name in "shellcheck", "python3":
        make_script(directory / "bin" / name, FAKE_COMMAND)
    for name in "pip", "python", "ruff":
        make_script(directory / ".venv/bin" / name, FAKE_COMMAND)


def run_gate(fail_at: int = 0, answer: str = HASH) -> SimpleNamespace:
    """Run the gate; return its exit code and its calls of commands, of which one fails."""
    Path("calls").write_text("")
    environment = os.environ | {"PATH": f"{Path('bin').resolve()}:{os.environ['PATH']}",
                                "FAIL_AT": str(fail_at), "HASH": answer}
    done = subprocess.run([".ci/run"], env=environment, timeout=60)
    calls = [line.partition("==")[0] for line in Path("calls").read_text().splitlines()]
    return SimpleNamespace(code=done.returncode, calls=calls)


def test_the_gate_lints_and_tests_also_on_the_real_data(commands):
    done = run_gate()
    assert done.calls == CALLS
    assert done.code == 0


def test_the_gate_ends_at_the_first_failure(commands):
    for number, command in enumerate(CALLS, start=1):
        done = run_gate(fail_at=number)
        assert len(done.calls) == number, f"it continues after {command}"
        assert done.code != 0, f"it succeeds in spite of {command}"


def test_the_gate_fails_if_the_hash_of_the_test_images_differs(commands):
    assert run_gate(answer=HASH[::-1]).code != 0


def test_the_readme_has_the_hash_and_the_commands_of_the_gate():
    gate = GATE.read_text(encoding="utf-8")
    assert HASH[:8] in README
    for beginning in "python3 -m venv", "python -m pytest":
        commands = re.findall(f"^{beginning}.*", README, re.MULTILINE)
        assert any(command in gate for command in commands), f".ci/run lacks {commands}"


def test_the_requirements_are_the_four_packages():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = {re.match("[a-z]*", line).group() for line in lines}
    assert packages == {"torch", "torchvision", "tensorboard", "pytest"}


def test_pytest_leaves_out_the_tests_marked_slow(pytestconfig):
    assert "not slow" in pytestconfig.getini("addopts")
