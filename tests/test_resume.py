"""What a run promises that was stopped: a whole checkpoint, the same bits, whole curves."""

import os
import pickle
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import serialization

import train
from conftest import Bomb, checkpoint, dictate_losses, logged, run, start

# pytest makes a module's fixtures before a function's: the runs of those below log all.
pytestmark = pytest.mark.usefixtures("only_epochs_logged")


class Died(Exception):
    """Raised where a run is to end unexpectedly."""


def die(*_, **__) -> None:
    raise Died


def run_until(function: str, *flags, of=train) -> None:
    """Train until a function is called, and end there."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(of, function, die)
        run(*flags)


# The same bits and curves


FLAGS = ["--augment", "--dropout=0.5", "--hidden=10", "--lr=1", "--seed=3"]


def read_until(process: subprocess.Popen, beginning: str) -> None:
    """Read what a process prints, to the line that begins so."""
    for line in process.stdout:
        if line.startswith(beginning):
            break


@pytest.fixture(scope="module")
def stopped(data_dir, tmp_path_factory) -> SimpleNamespace:
    """Two processes that were stopped: killed/ when it had printed epoch 2; and headed/, whose
    output was closed after epoch 1, as by `| head`. They start at once: a start takes seconds."""
    home = tmp_path_factory.mktemp("stopped")
    (home / "data").symlink_to(data_dir)
    headed, killed = [start(*FLAGS, "--epochs=100000", f"--log-dir={name}", cwd=home)
                      for name in ("headed", "killed")]
    read_until(killed, "    2 ")
    killed.kill()
    read_until(headed, "    1 ")
    headed.stdout.close()
    _, errors = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, f"it ended before it was killed: {errors}"
    errors = headed.stderr.read()
    return SimpleNamespace(home=home, headed_errors=errors, headed_code=headed.wait(timeout=60))


def test_train_py_needs_no_module_that_only_unix_has(stopped):
    """tests/child.py takes them away."""
    assert len(checkpoint(stopped.home / "killed")["history"]) >= 2


def test_a_closed_output_is_told_in_the_last_line(stopped):
    """Not in a traceback, and Python adds no line of its own when it ends."""
    assert stopped.headed_errors.splitlines()[-1] == (
        "train.py: error: the output was closed; the same command with --resume goes on")


def test_a_closed_output_is_exit_code_1(stopped):
    assert stopped.headed_code == 1


def test_a_run_with_a_closed_output_is_resumed(stopped, monkeypatch):
    monkeypatch.chdir(stopped.home)
    more = len(checkpoint("headed")["history"]) + 1
    assert len(run(*FLAGS, "--epochs", more, "--resume", log_dir="headed")) == more


@pytest.fixture(scope="module")
def runs(stopped) -> SimpleNamespace:
    """The directories of an uninterrupted run and of one that was stopped twice: by SIGKILL, and
    after an epoch was logged but before it was saved."""
    killed, whole = stopped.home / "killed", stopped.home / "whole"
    done = len(checkpoint(killed)["history"])
    flags = [*FLAGS, f"--epochs={done + 2}", f"--data-dir={stopped.home / 'data'}"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        patch.setattr(train, "save_checkpoint", die)
        train.main([*flags, f"--log-dir={killed}", "--resume"])
    train.main([*flags, f"--log-dir={killed}", "--resume"])
    train.main([*flags, f"--log-dir={whole}"])
    return SimpleNamespace(stopped=killed, whole=whole, done=done)


def test_an_epochs_line_is_shown_when_the_epoch_ends(runs):
    """It was killed when the line of epoch 2 came. Unflushed, a hundred come at once, in 8 kB."""
    assert runs.done < 90


@pytest.mark.parametrize("part", ["model", "optimizer", "scheduler", "settings", "history"])
def test_a_killed_run_resumes_to_the_same_bits(part, runs):
    assert checkpoint(runs.stopped)[part] == checkpoint(runs.whole)[part]


def test_a_killed_run_has_the_same_curves_and_pictures(runs):
    stopped, whole = logged(runs.stopped), logged(runs.whole)
    assert {"inputs", "filters", "mistakes"} <= whole.keys(), "the scene lacks pictures"
    for tag in whole.keys() - {"settings/text_summary"}:  # logged again at every start
        assert dict(stopped[tag]) == dict(whole[tag]), tag


@pytest.mark.parametrize("tag", ["loss/train", "accuracy/test", "gradients/output.weight"])
def test_an_epoch_that_was_logged_again_has_the_same_values(tag, runs):
    """Epoch done + 1 was logged, but not saved. So it was trained and logged again."""
    values = [value for step, value in logged(runs.stopped)[tag] if step == runs.done + 1]
    assert len(values) > 1
    assert values == values[:1] * len(values)


def test_an_interrupted_first_epoch_is_trained_again():
    run_until("save_checkpoint", "--epochs", 2)
    resumed = run("--epochs", 2, "--resume")
    assert resumed == run("--epochs", 2, log_dir="whole")


def test_a_second_start_that_is_stopped_loses_no_epoch(monkeypatch):
    """Made by a call in the first one's epoch 3, it renames the event file that the first is still
    writing, begins epoch 3, too, and is stopped."""
    train_epoch = train.train_epoch
    epochs = []

    def train_epoch_and_be_disturbed(*args):
        epochs.append(len(epochs) + 1)
        if len(epochs) == 3:
            run_until("train_epoch", "--epochs", 9, "--resume")
        return train_epoch(*args)

    monkeypatch.setattr(train, "train_epoch", train_epoch_and_be_disturbed)
    run("--epochs", 4)
    assert sorted(step for step, _ in logged()["loss/val"]) == [1, 2, 3, 4]


def test_epochs_are_read_in_order_whatever_the_clock_said():
    """TensorBoard reads event files in the order of their names, which begin with the time."""
    run("--epochs", 2)
    (path,) = Path("run").glob("events*")
    path.rename(path.with_name("events.out.tfevents.9999999999.a.machine.of.tomorrow"))
    run("--epochs", 4, "--resume")
    assert [step for step, _ in logged()["loss/val"]] == [1, 2, 3, 4]


# Longer, finished, and the learning rate


def test_a_finished_run_can_be_made_longer():
    run("--epochs", 1)
    run("--epochs", 3, "--resume")
    longer = checkpoint()
    run("--epochs", 3, log_dir="whole")
    assert longer == checkpoint("whole")


@pytest.mark.parametrize("epochs", [4, 1])
def test_a_finished_run_is_said_to_be_finished(epochs, plain_run, capsys):
    history = train.main([*plain_run.flags, f"--epochs={epochs}", "--resume"])
    assert history == plain_run.history
    assert f"{plain_run.directory}: finished already, 4 epochs\n" in capsys.readouterr().out


def test_a_finished_run_needs_no_data(plain_run):
    assert train.main([*plain_run.flags, "--resume", "--data-dir=gone"]) == plain_run.history


def test_resume_without_a_checkpoint_begins_a_run():
    assert len(run("--epochs", 1, "--resume")) == 1


def test_the_count_of_epochs_without_a_low_is_resumed(monkeypatch):
    dictate_losses(monkeypatch, val=[1, 2, 2, 2, 2])
    run("--epochs", 3)
    history = run("--epochs", 5, "--resume")
    assert [metrics["learning_rate"] for metrics in history] == pytest.approx([0.2] * 4 + [0.02])


def test_the_fallen_learning_rate_is_resumed(monkeypatch):
    dictate_losses(monkeypatch, val=[1, 2, 2, 2, 0.5, 0.4])
    run("--epochs", 5)
    history = run("--epochs", 6, "--resume")
    assert history[5]["learning_rate"] == pytest.approx(0.02)


# How it is saved


def test_events_are_flushed_and_bytes_on_disk_before_the_move(monkeypatch):
    calls = []
    replace = os.replace

    def note_flush(writer):
        calls.append("events flushed")

    def note_fsync(file):
        whole = os.fstat(file).st_size > 79_510 * 4  # the parameters alone are as many bytes
        calls.append("whole on disk" if whole else "part on disk")

    def note_replace(source, target):
        calls.append(f"moved to {target}")
        replace(source, target)

    monkeypatch.setattr(train.SummaryWriter, "flush", note_flush)
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    run("--epochs", 2)
    assert calls == ["events flushed", "whole on disk", "moved to run/checkpoint.pt"] * 2


def test_an_epochs_line_says_that_it_is_saved(capsys):
    run_until("save_checkpoint", "--epochs", 1)
    *_, titles = capsys.readouterr().out.splitlines()
    assert titles.startswith("epoch"), "there is a line of an epoch that was never saved"


def test_a_checkpoint_is_written_beside_its_place(monkeypatch):
    sources = []

    def note(source, target):
        sources.append(Path(source).parent)
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", note)
    run("--epochs", 1)
    assert sources == [Path("run")]


def test_the_old_checkpoint_stays_if_saving_fails():
    run("--epochs", 1)
    run_until("replace", "--epochs", 2, "--resume", of=os)
    assert len(checkpoint()["history"]) == 1


def test_no_half_checkpoint_is_left_if_saving_fails():
    run_until("replace", "--epochs", 1, of=os)
    assert [path.name for path in Path("run").glob("*checkpoint*")] == []


# What is refused


def refusal() -> str:
    """Return the line with which run/checkpoint.pt is refused."""
    with pytest.raises(SystemExit) as end:
        run("--epochs", 9, "--resume")
    return str(end.value.code)


DAMAGED = "train.py: error: run/checkpoint.pt is damaged or not a checkpoint of train.py; " \
          "choose another --log-dir"


def test_a_hostile_checkpoint_is_refused():
    Path("run").mkdir()
    torch.save({"settings": {}, "history": [], "object": Bomb()}, "run/checkpoint.pt")
    assert refusal() == DAMAGED


def test_a_hostile_checkpoint_runs_no_code():
    Path("run").mkdir()
    torch.save(Bomb(), "run/checkpoint.pt")
    refusal()
    assert not Path("exploded").exists()


def test_a_hostile_pickle_runs_no_code():
    Path("run").mkdir()
    Path("run/checkpoint.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))  # as torch once did
    refusal()
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"hello\n", b"PK\x03\x04"], ids=repr)
def test_a_file_of_something_else_is_refused(content):
    Path("run").mkdir()
    Path("run/checkpoint.pt").write_bytes(content)
    assert refusal() == DAMAGED


@pytest.mark.parametrize("content", [{}, [1], {"state_dict": {}}, {"settings": 3, "history": []},
                                     {"settings": {}, "history": 3}], ids=str)
def test_a_checkpoint_of_another_program_is_refused(content):
    Path("run").mkdir()
    torch.save(content, "run/checkpoint.pt")
    assert refusal() == DAMAGED


def test_a_checkpoint_cut_short_is_refused():
    run("--epochs", 1)
    path = Path("run/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal() == DAMAGED


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged():
    Path("run/checkpoint.pt").mkdir(parents=True)
    assert refusal() == "train.py: error: run/checkpoint.pt: Is a directory"


def test_a_checkpoint_of_another_network_is_refused(monkeypatch):
    run("--epochs", 1)
    monkeypatch.setattr(train, "MLP", lambda *_: torch.nn.Linear(3, 3))
    assert refusal() == "train.py: error: run/checkpoint.pt does not fit: the network in " \
                        "model.py is not the one that was saved; choose another --log-dir"


def test_a_checkpoint_without_a_part_is_refused():
    run("--epochs", 1)
    content = torch.load("run/checkpoint.pt", weights_only=True)
    del content["scheduler"]
    torch.save(content, "run/checkpoint.pt")
    assert refusal().startswith("train.py: error: run/checkpoint.pt does not fit: ")


@pytest.mark.parametrize("flag, words", [
    ("--init=zero", "--init was default and is zero"),
    ("--augment", "--augment was False and is True"),
    ("--dropout=0.5", "--dropout was 0.0 and is 0.5"),
    ("--depth=2", "--depth was 1 and is 2"),
    ("--hidden=21", "--hidden was 20 and is 21"),
    ("--batch-size=64", "--batch-size was 120 and is 64"),
    ("--lr=0.3", "--lr was 0.5 and is 0.3"),
    ("--patience=3", "--patience was 2 and is 3"),
    ("--seed=6", "--seed was 5 and is 6"),
])
def test_a_run_is_not_resumed_with_another_setting(flag, words, plain_run):
    with pytest.raises(SystemExit) as end:
        train.main([*plain_run.flags, "--resume", flag])
    path = plain_run.directory / "checkpoint.pt"
    assert end.value.code == f"train.py: error: {path}: {words}; choose another --log-dir"


def test_all_settings_that_differ_are_named(plain_run):
    with pytest.raises(SystemExit, match=": --lr was 0.5 and is 1.0, --seed was 5 and is 1; "):
        train.main([*plain_run.flags, "--resume", "--lr=1", "--seed=1"])


def test_a_setting_that_train_py_no_longer_has_is_refused():
    run("--epochs", 1)
    content = torch.load("run/checkpoint.pt", weights_only=True)
    content["settings"]["gone_flag"] = 0.9
    torch.save(content, "run/checkpoint.pt")
    assert "--gone-flag was 0.9 and is None;" in refusal()


# What is taken


def test_a_run_on_another_device_resumes_on_the_cpu(monkeypatch):
    with monkeypatch.context() as patch:
        # writes into the file that its tensors lie on cuda:99
        patch.setattr(serialization, "location_tag", lambda storage: "cuda:99")
        run("--epochs", 1)
    assert b"cuda:99" in Path("run/checkpoint.pt").read_bytes(), "the scene lacks a device"
    assert len(run("--epochs", 2, "--resume")) == 2


@pytest.mark.parametrize("flag", ["--threads=2", "--device=cpu:0", "--data-dir=moved"])
def test_threads_device_and_data_dir_may_change_on_resume(flag):
    run("--epochs", 1, "--hidden", 5)
    Path("moved").symlink_to("data")
    assert len(run("--epochs", 2, "--hidden", 5, "--resume", flag)) == 2


def test_a_checkpoint_of_torch_2_4_resumes():
    """Its scheduler has "verbose" and lacks "default_min_lr"."""
    run("--epochs", 1)
    content = torch.load("run/checkpoint.pt", weights_only=True)
    content["scheduler"].pop("default_min_lr", None)
    content["scheduler"]["verbose"] = False
    torch.save(content, "run/checkpoint.pt")
    resumed = run("--epochs", 2, "--resume")
    assert resumed == run("--epochs", 2, log_dir="whole")
