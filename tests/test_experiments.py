import os
import shutil
import subprocess
from pathlib import Path

from conftest import EXPERIMENTS, ROOT

SCRIPT = ROOT / "experiments.sh"


def sh(*command, python="python3", **environment) -> tuple[int, list[str], list[str]]:
    """Run a script; return the exit code, the lines printed and the calls of a fake python3."""
    Path("python3").write_text('#!/bin/sh\necho $0 $@ >>calls; [ "$FAIL_AT" != $(wc -l <calls) ]')
    Path("python3").chmod(0o755)
    Path("calls").write_text("")
    environment |= {"PYTHON": python, "PATH": f"{Path.cwd()}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    calls = Path("calls").read_text().replace(f"{Path.cwd()}/python3 ", "")
    return done.returncode, (done.stdout + done.stderr).splitlines(), calls.splitlines()


def expected(home, runs="runs", extra="") -> list[str]:
    return [f"{home}/train.py {extra}--resume --log-dir {runs}/{' '.join([name, *flags])}"
            for name, flags in EXPERIMENTS.items()] + [f"{home}/results.py {runs}"]


def test_arguments_precede_the_experiments_own_which_are_refused_and_help_is_the_header():
    calls = expected(ROOT, "else where", "--epochs 40 --data-dir a ")
    assert sh(SCRIPT, "--epochs", "40", "--data-dir", "a", RUNS="else where") == (0, [], calls)
    for flag, end in ("--init", ""), ("--augment", ""), ("--dropout", ""), ("--log-dir", "=x"):
        error = f"experiments.sh: error: {flag} is set by each experiment; use train.py"
        assert sh(SCRIPT, "--epochs", "1", flag + end) == (2, [error], [])
    header = [line[2:] for line in SCRIPT.read_text().splitlines()[1:9]]
    assert sh(SCRIPT, "--help") == sh(SCRIPT, "-h") == (0, header, [])


def test_it_finds_its_scripts_and_python_and_a_failing_run_ends_it(home):
    Path("link").symlink_to(SCRIPT)
    assert sh("./link", FAIL_AT="3") == (1, [], expected(ROOT)[:3])
    copy = shutil.copy(SCRIPT, home)
    assert sh(copy) == (0, [], expected("."))  # a job scheduler's copy, started beside train.py
    Path("train.py").touch()
    assert sh(copy, python="") == (0, [], expected(home))  # by python3
    for place in home / ".venv/Scripts/python.exe", home / ".venv/bin/python":
        place.parent.mkdir(parents=True)
        shutil.copy("python3", place)  # the second one is preferred
        assert sh(copy, python="")[2] == [f"{place} {call}" for call in expected(home)]
