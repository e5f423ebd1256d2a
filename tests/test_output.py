"""What train.py prints, and how it ends: finished, diverged, interrupted, on a full disk.

Plumbing: none of it is part of the lesson.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import train
from conftest import checkpoint, dictate_losses, disk_for, logged, quick_run
from model import MLP

# The plain run prints a line about itself, two of headers, one for each of 4 epochs, two more.


def test_the_first_line_shows_the_directory_and_the_epochs(capsys):
    quick_run("--epochs=1", "--resume")
    quick_run("--epochs=3", "--resume")
    quick_run("--epochs=2", log_dir="new")
    lines = capsys.readouterr().out.splitlines()
    # Between them are 2 headers, an epoch or two and 2 lines at the end.
    assert [lines[0], lines[6], lines[13]] == [
        "run: epochs 1 to 1 (no checkpoint to resume from)", "run: epochs 2 to 3",
        "new: epochs 1 to 2"]


def test_each_title_of_the_table_is_below_its_heading(plain_run):
    headings, titles = plain_run.printed[1:3]
    starts = [0, *map(headings.index, ["loss:", "accuracy:", "learning"]), len(titles)]
    assert [titles[start:end].split() for start, end in pairwise(starts)] == [
        ["epoch"], ["train", "clean", "val", "test"], ["test", "mirrored"], ["rate", "seconds"]]


def test_each_number_of_an_epoch_is_below_its_title(plain_run):
    titles, *epochs = plain_run.printed[2:7]
    assert len(titles) < 80, "a terminal has 80 columns"
    for line in epochs:
        title_ends, ends = ([word.end() for word in re.finditer(r"\S+", text)]
                            for text in (titles, line))
        assert ends == title_ends, f"\n{titles}\n{line}"


def test_an_epochs_line_shows_its_metrics(plain_run):
    tags = ["loss/train", "loss/train_clean", "loss/val", "loss/test", "accuracy/test",
            "accuracy/mirrored"]
    assert [line.split()[:8] for line in plain_run.printed[3:7]] == [
        [str(epoch), *(f"{metrics[tag]:.4f}" for tag in tags), "0.5"]
        for epoch, metrics in enumerate(plain_run.history, start=1)]


def test_the_seconds_are_those_of_one_epoch_in_all(monkeypatch, capsys):
    """Let training, four evaluations, the logs and the checkpoint each take a second."""
    clock = SimpleNamespace(now=0.0)

    def takes_a_second(result):
        def function(*_):
            clock.now += 1
            return result
        return function

    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    for name, result in {"train_epoch": 1.0, "evaluate": (1.0, 0.5), "log_epoch": None,
                         "save_checkpoint": None}.items():
        monkeypatch.setattr(train, name, takes_a_second(result))
    quick_run("--epochs=3")
    lines = capsys.readouterr().out.splitlines()[3:6]
    assert [line.split()[8] for line in lines] == ["7.00"] * 3


def test_the_last_line_but_one_sums_up_the_last_epoch(plain_run):
    last = plain_run.history[-1]
    assert plain_run.printed[-2] == (
        f"train loss {last['loss/train']:.4f}, gap {last['loss/gap']:.4f}, "
        f"test accuracy {last['accuracy/test']:.4f}, mirrored {last['accuracy/mirrored']:.4f}")


def test_the_summary_is_of_the_last_epoch_even_if_it_is_worse(monkeypatch, capsys):
    dictate_losses(monkeypatch, train=[3, 1, 2], val=[3, 1, 2])
    quick_run("--epochs=3")
    assert "\ntrain loss 2.0000, " in capsys.readouterr().out


def test_the_last_line_is_a_command_that_shows_the_run(plain_run):
    text, _, command = plain_run.printed[-1].partition(": ")
    assert text == "to view it"
    assert shlex.split(command) == ["tensorboard", "--logdir", str(plain_run.directory.parent)]


def test_a_finished_run_says_how_to_train_again(plain_run, capsys):
    train.main([*plain_run.flags, "--resume"])
    first_line, *rest = capsys.readouterr().out.splitlines()
    assert first_line == (f"{plain_run.directory}: already finished, 4 epochs; delete the "
                          "directory to train again")
    assert rest == plain_run.printed[-2:]


# Diverged


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_diverged_loss_ends_the_run(split, monkeypatch):
    for loss in float("nan"), float("inf"), 1e6:
        dictate_losses(monkeypatch, **{split: [1, loss, 1]})
        with pytest.raises(SystemExit) as end:
            quick_run("--hidden=5", log_dir=f"run{loss}")
        assert f": loss/{split} is {loss:.3g} in epoch 2; " in end.value.code


def test_a_diverged_run_says_what_to_do_next(monkeypatch):
    dictate_losses(monkeypatch, val=[1e7])
    with pytest.raises(SystemExit) as end:
        quick_run("--lr=0.5")
    assert end.value.code == (
        "train.py: error: training diverged: loss/val is 1e+07 in epoch 1; start again with --lr "
        "below 0.5, in another --log-dir or after deleting run")


def test_no_other_loss_ends_a_run(monkeypatch):
    """Neither one of the other splits nor one just below a million."""
    large, wrong = [1, 999_999, 999_999], [1, float("nan"), 1e9]
    dictate_losses(monkeypatch, train=large, val=large, train_clean=wrong, test=wrong,
                   mirrored=wrong)
    assert len(quick_run("--epochs=3")) == 3


def test_a_diverged_epoch_is_neither_logged_nor_saved(monkeypatch):
    dictate_losses(monkeypatch, train=[1, float("nan")])
    with pytest.raises(SystemExit):
        quick_run()
    assert logged()["loss/train"] == [(1, 1)]
    assert len(checkpoint()["history"]) == 1


# Interrupted, a full disk, paths that do not work


def interrupt(*_) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("place, name", [(train, "load_splits"), (MLP, "forward")])
def test_ctrl_c_gives_one_line_and_exit_code_130(place, name, monkeypatch, capsys):
    monkeypatch.setattr(place, name, interrupt)
    with pytest.raises(SystemExit) as end:
        quick_run()
    assert end.value.code == 130
    assert capsys.readouterr().err == (
        "train.py: interrupted; rerun it with --resume to continue\n")


def test_a_disk_full_of_checkpoints_gives_one_line():
    with disk_for(200_000), pytest.raises(SystemExit) as end:  # a checkpoint takes 320 kB
        quick_run("--epochs=1")
    assert max(path.stat().st_size for path in Path("run").glob("events*")) < 200_000
    assert re.fullmatch("train.py: error: .*File too large", end.value.code)


# TensorBoard writes events in a thread of its own, which prints a traceback of its own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_full_of_events_is_an_error_too():
    """There is room for a checkpoint of 20 kB, but not for the events of 1,000 epochs."""
    with disk_for(200_000), pytest.raises(SystemExit) as end:
        quick_run("--epochs=1000", "--hidden=1", "--examples=100")
    assert re.fullmatch("train.py: error: .*File too large", end.value.code)
    assert len(checkpoint()["history"]) > 1


@pytest.mark.parametrize("flags", [
    pytest.param(["--log-dir=file/runs/run"], id="a directory below a file"),
    pytest.param([f"--log-dir={'long' * 100}"], id="a long name of the run"),
    pytest.param([f"--data-dir={'long' * 100}"], id="a long name of the data set"),
    pytest.param(["--data-dir=file"], id="a file in place of the data set"),
    pytest.param(["--log-dir=link/run"], id="a dangling link"),
    pytest.param(["--data-dir=gone"], id="no data set"),
])
def test_a_path_that_does_not_work_is_named_in_one_line(flags):
    Path("file").touch()
    Path("link").symlink_to("gone")
    with pytest.raises(SystemExit) as end:
        train.main(["--epochs=1", *flags])
    path = flags[0].partition("=")[2].partition("/run")[0]
    assert re.fullmatch(f"train.py: error: .*{path}.*", end.value.code), end.value.code
