"""Every command in the README's fenced blocks is run here, or is the one that .ci/run runs."""

import io
import re
import shlex
import subprocess
import sys

import numpy
import pytest

import evaluate
import train
from conftest import ROOT
from data import load_splits

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
            for line in block.splitlines()]
GATE = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_command_is_of_a_kind_that_is_tested():
    kinds = r"python train\.py|python evaluate\.py$|python tests/benchmark\.py$|tensorboard --logdir runs$|seq 0 9 \| xargs|python3 -m venv \.venv && |python -c \"import sys, numpy"
    assert len(COMMANDS) >= 11
    assert [command for command in COMMANDS if not re.match(kinds, command)] == []


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python train.py")])
def test_the_training_commands_work(command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = shlex.split(command, comments=True)[2:]
    history = run(*flags, "--epochs", 1)
    assert len(history) == 1


def test_the_table_command_works(run, tmp_path, monkeypatch, capsys):
    assert "python evaluate.py" in COMMANDS
    run("--epochs", 1, log_dir=tmp_path / "runs" / "vanilla")
    monkeypatch.chdir(tmp_path)
    evaluate.main([])
    assert "| vanilla |" in capsys.readouterr().out


def test_the_two_first_commands_are_what_the_gate_runs():
    install = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
    assert [c for c in COMMANDS if "venv" in c] == [
        install + "./experiments.sh", install + ".venv/bin/python -m pytest"]
    assert install + ".venv/bin/python -m pytest" in GATE and "./experiments.sh" in GATE


def test_the_command_for_many_seeds_starts_every_experiment_with_every_seed(recorder, tmp_path):
    (command,) = [c for c in COMMANDS if c.startswith("seq")]
    subprocess.run(["sh", "-c", command], cwd=ROOT, check=True)
    calls = recorder.read_text().splitlines()
    assert len(calls) == 10 * 6 and not (tmp_path / "runs").exists()
    for seed in range(10):
        assert sum(f"--log-dir runs/seed{seed}/" in call and f"--seed {seed}" in call for call in calls) == 5


def test_the_command_of_the_riddle_hands_git_the_test_images(data_dir, tmp_path, monkeypatch):
    (command,) = [c for c in COMMANDS if "numpy.save" in c]
    script = re.search(r'python -c "(.*)" \| git hash-object --stdin', command)[1]
    assert "load_splits('datasets')['test'][0]" in script
    (tmp_path / "datasets").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    exec(script, {})  # noqa: S102 - our own README, on the made-up data
    saved = numpy.load(io.BytesIO(sys.stdout.buffer.getvalue()))
    assert (saved == load_splits(data_dir)["test"][0].numpy()).all() and saved.dtype == numpy.uint8


def test_readme_and_help_name_the_same_flags_and_tags(capsys, run, tmp_path):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    used = set(re.findall(r"(?<![\w-])--[a-z-]+", " ".join(c for c in COMMANDS if "train.py" in c)))
    assert used <= flags
    for tag in run("--epochs", 1)[0]:
        assert f"`{tag}`" in README or f"`{tag.split('/')[0]}/*`" in README


def test_the_pictures_exist_and_are_small():
    pictures = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert sorted(pictures) == sorted(f"docs/{path.name}" for path in (ROOT / "docs").iterdir())
    assert sum((ROOT / picture).stat().st_size for picture in pictures) < 1_500_000
    assert len(README.splitlines()) <= 220
