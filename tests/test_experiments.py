"""What experiments.sh promises: five runs and their table, by the right Python, from anywhere."""

import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import EXPERIMENTS, README, ROOT, make_script

SCRIPT = ROOT / "experiments.sh"
FAKE_PYTHON = """#!/bin/sh
# A Python that has torch, and notes how it is called instead of running anything.
[ "$1" = -c ] && exit  # -c asks whether torch is there: yes
echo "$0 $*" >> calls
[ "$FAIL_AT" != "$(wc -l < calls | tr -d ' ')" ]  # the exit code: 1 in call number $FAIL_AT
"""


@pytest.fixture
def place(home) -> Path:
    """A directory with experiments.sh and what lies beside it, and a python3 in the PATH."""
    directory = home / "the study"
    directory.mkdir()
    shutil.copy(SCRIPT, directory)
    (directory / "train.py").touch()
    make_script(home / "bin" / "python3", FAKE_PYTHON)
    return directory


def sh(*command, **environment: str) -> SimpleNamespace:
    """Run a script; return its exit code, its output, its errors, and the calls of Python, with ~
    for the test's directory."""
    for name in "PYTHON", "RUNS", "FAIL_AT":
        environment.setdefault(name, "")
    environment["PATH"] = f"{Path.cwd() / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True,
                          timeout=60)
    noted = Path("calls").read_text() if Path("calls").exists() else ""
    calls = noted.replace(os.environ["HOME"], "~").splitlines()
    return SimpleNamespace(code=done.returncode, output=done.stdout, errors=done.stderr,
                           calls=calls)


def calls_by(python: str = "~/bin/python3", scripts: str = "~/the study", extra: str = "",
             runs: str = "runs") -> list[str]:
    """Return the six calls that experiments.sh makes."""
    calls = []
    for name, flags in EXPERIMENTS.items():
        words = [python, f"{scripts}/train.py", *extra.split(), "--resume", "--log-dir",
                 f"{runs}/{name}", *flags]
        calls.append(" ".join(words))
    return [*calls, f"{python} {scripts}/results.py {runs}"]


# What it runs


@pytest.mark.parametrize("number, name", list(enumerate(EXPERIMENTS)))
def test_each_experiment_has_its_flags(number, name, place):
    calls = sh(place / "experiments.sh").calls
    assert calls[number] == calls_by()[number]


def test_the_table_comes_after_the_five_experiments(place):
    calls = sh(place / "experiments.sh").calls
    assert calls[5:] == ["~/bin/python3 ~/the study/results.py runs"]


def test_experiments_sh_ends_with_0_and_prints_nothing_itself(place):
    done = sh(place / "experiments.sh")
    assert done.output == ""
    assert done.errors == ""
    assert done.code == 0


def test_extra_arguments_go_to_every_run(place):
    done = sh(place / "experiments.sh", "--epochs", "40", "--seed", "1")
    assert done.calls == calls_by(extra="--epochs 40 --seed 1")


def test_an_argument_with_a_space_stays_one(home, place):
    make_script(home / "bin" / "python3", '#!/bin/sh\n[ "$1" = -c ] || echo "$3" >> calls\n')
    calls = sh(place / "experiments.sh", "--data-dir", "my data").calls
    assert calls[:5] == ["my data"] * 5


def test_the_variable_RUNS_is_the_directory_of_the_runs(place):
    done = sh(place / "experiments.sh", RUNS="seeds/no 1")
    assert done.calls == calls_by(runs="seeds/no 1")


def test_a_space_in_RUNS_makes_no_more_arguments(home, place):
    make_script(home / "bin" / "python3", '#!/bin/sh\n[ "$1" = -c ] || echo $# >> calls\n')
    usual = sh(place / "experiments.sh").calls
    all_twelve = sh(place / "experiments.sh", RUNS="no 1").calls
    assert all_twelve[6:] == usual


@pytest.mark.parametrize("argument", [
    "--init", "--init=zero", "--augment", "--dropout", "--dropout=0.5", "--log-dir", "--log-dir=x"])
def test_flags_that_the_experiments_set_are_refused(argument, place):
    done = sh(place / "experiments.sh", "--epochs", "1", argument)
    flag = argument.partition("=")[0]
    expected = f"experiments.sh: error: {flag} is set by each experiment; use train.py\n"
    assert done.errors == expected
    assert done.code == 2
    assert done.calls == []


@pytest.mark.parametrize("number", range(1, 7))
def test_a_run_that_fails_ends_experiments_sh(number, place):
    done = sh(place / "experiments.sh", FAIL_AT=str(number))
    assert len(done.calls) == number
    assert done.code == 1


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_experiments_sh_is_the_comment_at_its_head(flag, place):
    done = sh(place / "experiments.sh", flag)
    head = [line[2:] for line in SCRIPT.read_text(encoding="utf-8").splitlines()[1:9]]
    assert done.output.splitlines() == head
    assert done.code == 0
    assert done.calls == []


def test_help_of_experiments_sh_tells_its_four_uses(place):
    output = sh(place / "experiments.sh", "--help").output
    for use in "./experiments.sh  ", "./experiments.sh --epochs 40", "RUNS=", "PYTHON=":
        assert use in output


# Where it is started from


def test_experiments_sh_can_be_started_by_sh(place):
    assert sh("sh", place / "experiments.sh").calls == calls_by()


def test_experiments_sh_can_be_started_in_its_directory(place, monkeypatch):
    monkeypatch.chdir(place)
    make_script(place / "bin" / "python3", FAKE_PYTHON)  # sh() puts ./bin into the PATH
    assert sh("./experiments.sh").calls == calls_by(python="~/the study/bin/python3")


def test_experiments_sh_can_be_started_through_a_link(place):
    Path("link").symlink_to(place / "experiments.sh")
    assert sh("./link").calls == calls_by()


def test_a_copy_of_the_script_elsewhere_uses_train_py_here(home):
    """Job schedulers run a copy in a directory of their own."""
    make_script(home / "bin" / "python3", FAKE_PYTHON)
    (home / "spool").mkdir()
    shutil.copy(SCRIPT, home / "spool" / "job7")
    assert sh("sh", "spool/job7").calls == calls_by(scripts=".")


# By which Python


@pytest.mark.parametrize("venv", [".venv/bin/python", ".venv/Scripts/python.exe"])
def test_the_venv_beside_experiments_sh_is_used(venv, place):
    make_script(place / venv, FAKE_PYTHON)
    assert sh(place / "experiments.sh").calls == calls_by(python=f"~/the study/{venv}")


def test_the_variable_PYTHON_wins_where_there_is_a_venv(home, place):
    make_script(place / ".venv/bin/python", FAKE_PYTHON)
    make_script(home / "bin" / "other", FAKE_PYTHON)
    done = sh(place / "experiments.sh", PYTHON="other")
    assert done.calls == calls_by(python="~/bin/other")


def test_the_variable_PYTHON_wins_where_there_is_no_venv(home, place):
    make_script(home / "bin" / "other", FAKE_PYTHON)
    done = sh(place / "experiments.sh", PYTHON="other")
    assert done.calls == calls_by(python="~/bin/other")


# Real Pythons if they are asked for torch: this one, and this one without its packages (-S).
WITH_TORCH = f"""#!/bin/sh
[ "$1" = -c ] && exec "{sys.executable}" "$@"
echo "$0" >> calls
"""
NO_TORCH = WITH_TORCH.replace('"$@"', '-I -S "$@"')


def test_a_venv_without_torch_is_passed_over(home, place):
    make_script(place / ".venv/bin/python", NO_TORCH)
    make_script(home / "bin" / "python3", WITH_TORCH)
    done = sh(place / "experiments.sh")
    assert done.errors == ""
    assert done.calls == ["~/bin/python3"] * 6


def test_a_venv_with_torch_precedes_python3(home, place):
    make_script(place / ".venv/bin/python", WITH_TORCH)
    make_script(home / "bin" / "python3", WITH_TORCH)
    assert sh(place / "experiments.sh").calls == ["~/the study/.venv/bin/python"] * 6


def test_without_torch_experiments_sh_says_how_to_get_it(home, place):
    make_script(home / "bin" / "python3", NO_TORCH)
    done = sh(place / "experiments.sh")
    assert done.code == 1
    assert done.calls == []
    beginning, _, command = done.errors.rstrip("\n").partition(" install it: ")
    assert beginning == "experiments.sh: error: no Python has torch;"
    assert command in README.splitlines(), f"the README has another command than {command}"


# What keeps it running elsewhere


def test_git_keeps_the_scripts_line_ends_on_windows():
    """With \\r\\n, no shell runs it."""
    attributes = []
    for line in (ROOT / ".gitattributes").read_text().splitlines():
        pattern, *words = line.split()
        if fnmatch.fnmatch(SCRIPT.name, pattern):
            attributes += words
    assert "eol=lf" in attributes


def test_experiments_sh_has_line_ends_of_unix():
    assert SCRIPT.read_bytes().count(b"\r") == 0


def test_experiments_sh_can_be_executed():
    assert SCRIPT.stat().st_mode & 0o111 == 0o111
