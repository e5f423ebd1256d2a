import os
import shutil
import subprocess

import pytest

from conftest import EXPERIMENTS, ROOT

SCRIPT = ROOT / "experiments.sh"


@pytest.fixture
def recorded(tmp_path):
    """Return a function that runs a script with a recorder, which fails at call FAIL_AT, in
    Python's place; it returns the exit code, what was printed, and the calls of Python."""
    recorder, calls = tmp_path / "python3", tmp_path / "calls"
    recorder.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$FAIL_AT" != "$(wc -l < {calls})" ]\n')
    recorder.chmod(0o755)

    def recorded(*command, cwd=tmp_path, **environment):
        calls.write_text("")
        environment = os.environ | {"PYTHON": str(recorder), "CALLS": str(calls)} | environment
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines()

    return recorded


def expected(home, runs="runs", extra="") -> list[str]:
    return [f"{home}/train.py {extra}--resume --log-dir {runs}/{' '.join([name, *flags])}"
            for name, flags in EXPERIMENTS.items()] + [f"{home}/results.py {runs}"]


def test_extra_arguments_precede_the_experiments_own_and_a_failing_run_ends_the_script(recorded):
    assert recorded(SCRIPT) == (0, "", expected(ROOT))
    _, _, calls = recorded(SCRIPT, "--epochs", "40", "--data-dir", "a", RUNS="else where")
    assert calls == expected(ROOT, "else where", "--epochs 40 --data-dir a ")
    assert recorded(SCRIPT, FAIL_AT="3") == (1, "", expected(ROOT)[:3])


def test_it_finds_its_scripts_and_python_from_anywhere(recorded, tmp_path):
    home, spool = tmp_path / "home", tmp_path / "spool"
    spool.mkdir()
    shutil.copy(SCRIPT, spool)
    (tmp_path / "link").symlink_to(SCRIPT)
    assert recorded("sh", SCRIPT)[2] == recorded("./link")[2] == expected(ROOT)
    assert recorded(spool / "experiments.sh", cwd=ROOT)[2] == expected(".")  # a scheduler's copy
    home.mkdir()
    for script in "experiments.sh", "train.py":
        shutil.copy(ROOT / script, home)
    bare = {"PYTHON": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert recorded(home / "experiments.sh", **bare) == (0, "", expected(home))  # by python3
    for place in ".venv/Scripts/python.exe", ".venv/bin/python":  # the second one comes first
        (home / place).parent.mkdir(parents=True)
        (home / place).write_text(f"#!/bin/sh\necho {place} >> $CALLS\n")
        (home / place).chmod(0o755)
        assert recorded(home / "experiments.sh", **bare)[2] == [place] * 6


@pytest.mark.parametrize("argument", ["--init", "--init=zero", "--augment", "--dropout", "--log-dir"])
def test_what_the_experiments_differ_in_is_refused(recorded, argument):
    code, output, calls = recorded(SCRIPT, "--epochs", "1", argument, "x")
    assert code == 2 and not calls and output.count("\n") == 1
    assert output.startswith(f"experiments.sh: error: {argument.split('=')[0]} ")


def test_help_is_the_header_once_and_a_checkout_keeps_its_line_ends(recorded, tmp_path):
    code, output, calls = recorded(SCRIPT, "--epochs", "1", "--help")
    assert code == 0 and not calls and len(output.splitlines()) == 8 and output.startswith("The five")
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    for name in ".gitattributes", "experiments.sh":
        shutil.copy(ROOT / name, tmp_path / "clone")
    git = ["git", "-C", tmp_path / "clone", "-c", "core.autocrlf=true", "-c", "user.name=x", "-c", "user.email=x"]
    for command in ["add", "."], ["commit", "-qm", "x"], ["rm", "-q", "experiments.sh"], ["checkout", "-q", "HEAD", "."]:
        subprocess.run([*git, *command], check=True, capture_output=True)
    assert b"\r" not in (tmp_path / "clone" / "experiments.sh").read_bytes()
