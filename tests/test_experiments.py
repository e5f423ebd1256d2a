import os
import shutil
import subprocess

import pytest

from conftest import EXPERIMENTS, ROOT

SCRIPT = ROOT / "experiments.sh"


@pytest.fixture
def recorded(tmp_path):
    """Return a function that runs a script with a recorder in Python's place, which fails at call
    FAIL_AT: recorded(*command) -> (exit code, what was printed, the calls of Python)."""
    recorder, calls = tmp_path / "python3", tmp_path / "calls"
    recorder.write_text('#!/bin/sh\necho "$@" >> $CALLS\n[ "$FAIL_AT" != "$(wc -l < $CALLS)" ]\n')
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
    _, _, calls = recorded(SCRIPT, "--epochs", "40", "--data-dir", "a", RUNS="else where")
    assert calls == expected(ROOT, "else where", "--epochs 40 --data-dir a ")
    assert recorded(SCRIPT, FAIL_AT="3") == (1, "", expected(ROOT)[:3])


def test_it_finds_its_scripts_and_python_through_links_as_a_copy_and_on_windows(recorded, tmp_path):
    (tmp_path / "link").symlink_to(SCRIPT)
    assert recorded("./link") == (0, "", expected(ROOT))
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(SCRIPT, home)
    assert recorded(home / "experiments.sh", cwd=ROOT)[2] == expected(".")  # a scheduler's copy
    (home / "train.py").touch()
    bare = {"PYTHON": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert recorded(home / "experiments.sh", **bare) == (0, "", expected(home))  # by python3
    for place in ".venv/Scripts/python.exe", ".venv/bin/python":  # the second one comes first
        (home / place).parent.mkdir(parents=True)
        (home / place).write_text(f"#!/bin/sh\necho {place} >> $CALLS\n")
        (home / place).chmod(0o755)
        assert recorded(home / "experiments.sh", **bare)[2] == [place] * 6


@pytest.mark.parametrize("argument, code, lines, start", [
    *((flag, 2, 1, f"experiments.sh: error: {flag.removesuffix('=x')} ")
      for flag in ("--init=x", "--augment", "--dropout", "--log-dir")),
    ("--help", 0, 8, "The five experiments"), ("-h", 0, 8, "The five experiments")])
def test_flags_of_the_experiments_are_refused_and_help_is_the_header(
        recorded, argument, code, lines, start):
    actual_code, output, calls = recorded(SCRIPT, "--epochs", "1", argument, "x")
    assert (actual_code, output.count("\n"), calls) == (code, lines, [])
    assert output.startswith(start)
    assert (ROOT / ".gitattributes").read_text() == "* text=auto eol=lf\n"  # on Windows, too
