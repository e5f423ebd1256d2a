"""What train.py prints, and how it ends: finished, exploded, interrupted, on a full disk."""

import re
import runpy
import shlex
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

import data
import download
import train
from conftest import ROOT, checkpoint, dictate_losses, disk_for, logged, run
from model import MLP

# The lines of the plain run: a title, two of headers, one for each of 4 epochs, and two at the end.


def test_the_first_line_names_the_runs_directory_and_epochs(plain_run):
    assert plain_run.printed[0] == f"{plain_run.directory}: epochs 1 to 4"


def test_a_resumed_run_names_the_epochs_to_come(capsys):
    run("--epochs", 1)
    capsys.readouterr()
    run("--epochs", 3, "--resume")
    assert capsys.readouterr().out.splitlines()[0] == "run: epochs 2 to 3"


def test_the_titles_name_the_columns_of_an_epochs_line(plain_run):
    expected = "epoch train clean val test test mirrored rate seconds"
    assert plain_run.printed[2].split() == expected.split()


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_each_number_ends_below_its_title(epoch, plain_run):
    header, row = plain_run.printed[2], plain_run.printed[2 + epoch]
    assert [match.end() for match in re.finditer(r"\S+", row)] == [
        match.end() for match in re.finditer(r"\S+", header)], f"\n{header}\n{row}"


def test_losses_and_accuracies_stand_below_their_headings(plain_run):
    groups, titles = plain_run.printed[1:3]
    assert titles[:groups.index("loss:")].split() == ["epoch"]
    assert titles[:groups.index("accuracy:")].split() == ["epoch", "train", "clean", "val", "test"]
    assert titles[groups.index("learning"):].split() == ["rate", "seconds"]


@pytest.mark.parametrize("column, tag", [
    (1, "loss/train"), (2, "loss/train_clean"), (3, "loss/val"), (4, "loss/test"),
    (5, "accuracy/test"), (6, "accuracy/mirrored")])
def test_an_epochs_line_shows_its_metrics(column, tag, plain_run):
    shown = [row.split()[column] for row in plain_run.printed[3:7]]
    assert shown == [f"{metrics[tag]:.4f}" for metrics in plain_run.history]


def test_an_epochs_line_begins_with_its_number(plain_run):
    assert [row.split()[0] for row in plain_run.printed[3:7]] == ["1", "2", "3", "4"]


def test_an_epochs_line_shows_its_learning_rate(monkeypatch, capsys):
    dictate_losses(monkeypatch, val=[1] * 5)
    run("--epochs", 5)
    rows = capsys.readouterr().out.splitlines()[3:8]
    assert [row.split()[7] for row in rows] == ["0.2", "0.2", "0.2", "0.2", "0.02"]


def test_seconds_count_one_epoch_with_all_that_belongs_to_it(monkeypatch, capsys):
    """Let each call take a second: a training, four evaluations, the logs and the checkpoint."""
    dictate_losses(monkeypatch)
    now = [0.0]

    def slow(function):
        def slow_function(*args):
            now[0] += 1
            return function(*args)
        return slow_function

    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for name in "train_epoch", "evaluate", "log_epoch", "save_checkpoint":
        monkeypatch.setattr(train, name, slow(getattr(train, name)))
    run("--epochs", 3)
    rows = capsys.readouterr().out.splitlines()[3:6]
    assert [row.split()[8] for row in rows] == ["7.00"] * 3


def test_the_lines_of_epochs_fit_a_terminal(plain_run):
    assert max(len(line) for line in plain_run.printed[1:-1]) <= 80


def test_the_last_line_but_one_sums_up_the_last_epoch(plain_run):
    last = plain_run.history[-1]
    assert plain_run.printed[-2] == (
        f"train loss {last['loss/train']:.4f}, gap {last['loss/gap']:.4f}, "
        f"test accuracy {last['accuracy/test']:.4f}, mirrored {last['accuracy/mirrored']:.4f}")


def test_the_last_epoch_is_summed_up_though_it_is_not_the_best(monkeypatch, capsys):
    dictate_losses(monkeypatch, train=[3, 1, 2])
    run("--epochs", 3)
    assert capsys.readouterr().out.splitlines()[-2].startswith("train loss 2.0000, ")


def test_the_last_line_is_a_command_that_shows_the_run(plain_run):
    text, _, command = plain_run.printed[-1].partition(": ")
    assert text == "see it"
    assert shlex.split(command) == ["tensorboard", "--logdir", str(plain_run.directory.parent)]


# A loss that explodes


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e6])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_loss_that_explodes_ends_the_run(split, loss, monkeypatch):
    dictate_losses(monkeypatch, **{split: [1, loss, 1]})
    with pytest.raises(SystemExit) as end:
        run("--lr", 0.5)
    assert end.value.code == (f"train.py: error: loss/{split} is {loss:.3g} in epoch 2; "
                              "start again with --lr lower than 0.5")


@pytest.mark.parametrize("split", ["train_clean", "test", "mirrored"])
def test_only_loss_train_and_loss_val_can_end_a_run(split, monkeypatch):
    dictate_losses(monkeypatch, **{split: [1, float("nan"), 1e9]})
    assert len(run("--epochs", 3)) == 3


def test_a_loss_just_below_a_million_ends_no_run(monkeypatch):
    dictate_losses(monkeypatch, train=[999_999], val=[999_999])
    assert len(run("--epochs", 1)) == 1


def test_an_exploded_epoch_is_not_in_tensorboard(monkeypatch):
    dictate_losses(monkeypatch, train=[1, float("nan")])
    with pytest.raises(SystemExit):
        run()
    assert logged()["loss/train"] == [(1, 1)]


def test_an_exploded_epoch_is_not_saved(monkeypatch):
    dictate_losses(monkeypatch, train=[1, float("nan")])
    with pytest.raises(SystemExit):
        run()
    assert len(checkpoint()["history"]) == 1


# Ctrl-C, a full disk


def run_as_program(monkeypatch, *flags) -> int | str | None:
    """Run train.py as `python train.py` does, but in this process; return what it exits with.

    train.py is executed anew, so patch not train, but the modules that it imports from.
    """
    monkeypatch.setattr(sys, "argv", ["train.py", "--data-dir=data", "--log-dir=run", *flags])
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # restored after the test
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    return end.value.code


def interrupt(*_) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def test_ctrl_c_is_one_line_and_code_130(monkeypatch, capsys):
    monkeypatch.setattr(MLP, "forward", interrupt)
    assert run_as_program(monkeypatch) == 130
    expected = "train.py: interrupted; the same command with --resume goes on\n"
    assert capsys.readouterr().err == expected


def test_ctrl_c_before_the_first_epoch_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr(data, "load_splits", interrupt)
    assert run_as_program(monkeypatch) == 130
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def last_words() -> str:
    """What a run says when its first checkpoint fills the disk, which its events have not done."""
    with disk_for(200_000), pytest.raises(SystemExit) as end:  # a checkpoint has 320 kB
        run("--batch-size", 5000)
    sizes = [path.stat().st_size for path in Path("run").glob("events*")]
    assert max(sizes) < 200_000, "the events have filled the disk"
    return end.value.code


def test_a_disk_full_of_checkpoints_is_one_line(last_words):
    assert last_words == "train.py: error: run: File too large"


def test_a_disk_full_of_checkpoints_keeps_no_half_one(last_words):
    assert [path.name for path in Path("run").glob("*checkpoint*")] == []


def test_a_disk_full_of_events_is_one_line(monkeypatch, capfd):
    """TensorBoard writes them in a thread, from which Python's hook would print a traceback."""
    hook = Mock()
    monkeypatch.setattr(threading, "excepthook", hook)
    with disk_for(400_000):  # more than a checkpoint, less than the events of 100 epochs
        code = run_as_program(monkeypatch, "--epochs=100", "--batch-size=5000")
    assert re.fullmatch("train.py: error: .*: File too large", code)
    assert capfd.readouterr().err == ""
    assert hook.mock_calls == []
    assert len(checkpoint()["history"]) > 1


@pytest.mark.parametrize("log_dir", ["file/run", "file/runs/run"])
def test_a_directory_below_a_file_is_one_line(log_dir):
    Path("file").touch()
    with pytest.raises(SystemExit, match="^train.py: error: file.*: Not a directory$"):
        run("--epochs", 1, log_dir=log_dir)


@pytest.mark.parametrize("program", [train, download], ids=["train.py", "download.py"])
def test_a_name_that_is_too_long_is_one_line(program):
    """Path.is_file() raises for it before Python 3.14, os.path.isfile() does not."""
    with pytest.raises(SystemExit) as end:
        program.main([f"--data-dir={'long' * 100}"])
    assert re.fullmatch(r"\w+\.py: error: .*", end.value.code)


def test_a_link_that_leads_nowhere_is_named():
    Path("link").symlink_to("gone")
    with pytest.raises(SystemExit, match="^train.py: error: link is a link to gone, which is not "):
        run("--epochs", 1, log_dir="link/run")


def test_missing_data_are_one_line():
    with pytest.raises(SystemExit, match="^train.py: error: Fashion-MNIST cannot be downloaded;"):
        run("--data-dir=gone")
