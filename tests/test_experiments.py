"""What experiments.sh promises: five runs and their table, by the right Python. Plumbing."""

import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import EXPERIMENTS, README, ROOT, make_script

SCRIPT = ROOT / "experiments.sh"
FAKE_PYTHON = r"""#!/bin/sh
# A Python that has torch, and notes how it is called instead of running anything.
[ "$1" = -c ] && exit  # -c asks whether torch is there: yes
printf '%s\t' "$0" "$@" >> ~/calls
echo >> ~/calls
[ "$FAIL_AT" != "$(wc -l < ~/calls | tr -d ' ')" ]  # the exit code: 1 in call number $FAIL_AT
"""
# The same, but a real Python is asked for torch: this one, and this one without its packages (-S).
WITH_TORCH = FAKE_PYTHON.replace("&& exit", f'&& exec "{sys.executable}" "$@"')
NO_TORCH = WITH_TORCH.replace('"$@"', '-I -S "$@"', 1)


@pytest.fixture
def study(directory) -> Path:
    """A directory with experiments.sh and what lies beside it, and a python3 in the PATH."""
    study = directory / "the study"
    study.mkdir()
    shutil.copy(SCRIPT, study)
    (study / "train.py").touch()
    make_script(directory / "bin" / "python3", FAKE_PYTHON)
    return study


def sh(*command, bin_directory="bin", cwd=None, **variables: str) -> SimpleNamespace:
    """Run a script; return its exit code, its output, its errors, and the calls of Python.

    A call is a list of words: the Python, the script, its arguments. The home directory is written
    ~ in them. Of the variables that experiments.sh looks at, only the given ones are set, whatever
    is set where the tests run.
    """
    home = Path.home()
    (home / "calls").write_text("")
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("PYTHON", "RUNS", "VIRTUAL_ENV")}
    inherited["PATH"] = f"{home / bin_directory}:{home / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(command, env=inherited | variables, cwd=cwd, capture_output=True,
                          text=True, timeout=60)
    noted = (home / "calls").read_text().replace(str(home), "~")
    calls = [line.rstrip("\t").split("\t") for line in noted.splitlines()]
    return SimpleNamespace(code=done.returncode, output=done.stdout, errors=done.stderr,
                           calls=calls, pythons={call[0] for call in calls},
                           scripts={call[1] for call in calls})


# What it runs


def test_experiments_sh_runs_five_experiments_then_the_table(study):
    done = sh(study / "experiments.sh")
    calls = [["--resume", "--log-dir", f"runs/{name}", *EXPERIMENTS[name]] for name in EXPERIMENTS]
    assert [call[2:] for call in done.calls] == [*calls, ["runs"]]
    assert [Path(call[1]).name for call in done.calls] == ["train.py"] * 5 + ["results.py"]
    assert (done.code, done.output, done.errors) == (0, "", "")


def test_extra_arguments_go_to_every_run(study):
    extra = ["--epochs", "40", "--data-dir", "my data"]
    calls = sh(study / "experiments.sh", *extra).calls
    assert [call[2:6] for call in calls] == [extra] * 5 + [["runs"]]


def test_the_variable_RUNS_is_the_directory_of_the_runs(study):
    calls = sh(study / "experiments.sh", RUNS="seeds/no 1").calls
    words = [word for call in calls for word in call if word.startswith("seeds")]
    assert words == [*(f"seeds/no 1/{name}" for name in EXPERIMENTS), "seeds/no 1"]


def test_a_run_that_fails_ends_experiments_sh(study):
    codes_and_calls = {}
    for number in range(1, 7):
        done = sh(study / "experiments.sh", FAIL_AT=str(number))
        codes_and_calls[number] = (done.code, len(done.calls))
    assert codes_and_calls == {number: (1, number) for number in range(1, 7)}


def test_flags_that_the_experiments_set_are_refused(study):
    for argument in "--init", "--init=zero", "--augment", "--dropout", "--dropout=0.5":
        done = sh(study / "experiments.sh", "--epochs", "1", argument)
        flag = argument.partition("=")[0]
        assert flag in done.errors, argument
        assert "use train.py" in done.errors, argument
        assert (done.code, done.calls) == (2, []), argument


def test_log_dir_is_refused_with_a_hint_at_RUNS(study):
    for argument in "--log-dir", "--log-dir=x":
        done = sh(study / "experiments.sh", argument)
        assert "put all of them elsewhere with RUNS=DIR ./experiments.sh" in done.errors, argument
        assert (done.code, done.calls) == (2, []), argument


def test_help_is_the_comment_at_the_head_of_experiments_sh(study):
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()[1:]
    comment = [line[2:] for line in takewhile(lambda line: line.startswith("#"), lines)]
    for flag in "-h", "--help":
        done = sh(study / "experiments.sh", "--epochs", "1", flag)
        assert done.output.splitlines() == comment, flag
        assert (done.code, done.calls) == (0, []), flag
    assert "RUNS=" in done.output
    assert "PYTHON=" in done.output


# Where it is started from


def test_experiments_sh_can_be_started_in_several_ways(study):
    Path("link").symlink_to(study / "experiments.sh")
    scripts = {"by sh": sh("sh", study / "experiments.sh").scripts,
               "in its directory": sh("./experiments.sh", cwd=study).scripts,
               "through a link": sh("./link").scripts}
    found = {"~/the study/train.py", "~/the study/results.py"}
    assert scripts == dict.fromkeys(scripts, found)


def test_a_copy_elsewhere_uses_train_py_in_the_current_directory(study, directory):
    """Job schedulers run a copy in a directory of their own."""
    (directory / "spool").mkdir()
    shutil.copy(SCRIPT, directory / "spool" / "job7")
    assert sh("sh", "../spool/job7", cwd=study).scripts == {"./train.py", "./results.py"}


# Which Python it uses


def test_the_first_python_with_torch_runs_the_experiments(study, directory):
    pythons = [study / ".venv/bin/python", study / ".venv/Scripts/python.exe",
               directory / "bin/python3", directory / "bin/python"]
    for python in pythons:
        make_script(python, WITH_TORCH)
    used = []
    for python in pythons:
        done = sh(study / "experiments.sh")
        used.append((done.pythons, done.errors))
        make_script(python, NO_TORCH)
    assert used == [({str(python).replace(str(directory), "~")}, "") for python in pythons]


def test_the_active_environment_comes_first(study, directory):
    make_script(study / ".venv/bin/python", WITH_TORCH)
    make_script(directory / "env/bin/python", WITH_TORCH)
    active = {"bin_directory": "env/bin", "VIRTUAL_ENV": str(directory / "env")}
    assert sh(study / "experiments.sh", **active).pythons == {"~/env/bin/python"}
    make_script(directory / "env/bin/python", NO_TORCH)
    assert sh(study / "experiments.sh", **active).pythons == {"~/the study/.venv/bin/python"}


def test_the_variable_PYTHON_wins_over_all_others(study, directory):
    for python in study / ".venv/bin/python", directory / "bin/python", directory / "bin/mine":
        make_script(python, FAKE_PYTHON)
    done = sh(study / "experiments.sh", PYTHON="mine", VIRTUAL_ENV="active")
    assert done.pythons == {"~/bin/mine"}


def test_without_torch_experiments_sh_says_how_to_install_it(study, directory):
    for name in "python3", "python":
        make_script(directory / "bin" / name, NO_TORCH)
    done = sh(study / "experiments.sh")
    beginning, _, command = done.errors.rstrip("\n").partition(" install it: ")
    assert beginning == "experiments.sh: error: found no Python with torch;"
    assert command in README.splitlines(), f"the README has a different command than {command}"
    assert (done.code, done.calls) == (1, [])


# The file


def test_experiments_sh_is_a_unix_script():
    assert SCRIPT.stat().st_mode & 0o111 == 0o111, "it cannot be executed"
    assert b"\r" not in SCRIPT.read_bytes(), "no shell runs lines that end with \\r\\n"


def test_git_keeps_the_line_endings_of_scripts_on_windows():
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    attributes = [word for line in lines if fnmatch(SCRIPT.name, line.split()[0])
                  for word in line.split()[1:]]
    assert "eol=lf" in attributes
