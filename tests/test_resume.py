"""A stopped run continues with --resume as if it had never stopped: same bits, whole curves.

Plumbing: none of it is part of the lesson.
"""

import shutil
import signal
import sys
import time
from io import BytesIO
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from conftest import checkpoint, dictate_losses, disk_for, logged, quick_run, run, start_process

FLAGS = ["--augment", "--dropout=0.5", "--hidden=5", "--examples=200", "--lr=1", "--seed=3"]


def outcome(directory: Path) -> dict[str, list]:
    """Return {name: value}: the parts of the checkpoint, and the points that TensorBoard shows.

    An epoch that was logged twice with the same values is one point. Pictures are compared by
    their pixels, since a process of its own compresses them more than the tests do. The settings
    are left out: each start logs them.
    """
    found = checkpoint(directory)
    for tag, points in logged(directory).items():
        if tag in ("inputs", "filters", "mistakes"):
            points = [(step, Image.open(BytesIO(png)).tobytes()) for step, png in points]
        if tag != "settings/text_summary":
            different = [point for i, point in enumerate(points) if point not in points[:i]]
            found[tag] = sorted(different, key=lambda point: point[0])
    return found


def assert_same(actual: dict, expected: dict, scene: str = "") -> None:
    """Fail if two outcomes are different, and name the parts and tags that are."""
    names = expected.keys() | actual.keys()
    assert [name for name in names if actual.get(name) != expected.get(name)] == [], scene


# Killed


@pytest.fixture(scope="module")
def killed(data_dir, tmp_path_factory) -> SimpleNamespace:
    """A process that was killed when it had printed epoch 2, and how many epochs it had saved.

    tests/child.py takes away the modules that only Unix has: train.py does not need them.
    """
    directory = tmp_path_factory.mktemp("killed")
    process = start_process(*FLAGS, "--epochs=100000", f"--log-dir={directory}")
    lines = iter(process.stdout.readline, "")
    found = any(line.startswith("    2 ") for line in lines)
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert found, f"it ended before epoch 2: {errors}"
    assert process.returncode == -signal.SIGKILL
    return SimpleNamespace(directory=directory, saved=len(checkpoint(directory)["history"]))


def test_an_epochs_line_is_shown_when_the_epoch_ends(killed):
    """Lines that wait in a buffer of 8 kB would arrive a hundred at once."""
    assert 2 <= killed.saved < 90


def test_a_killed_process_resumes_to_the_same_bits(killed):
    flags = [*FLAGS, f"--epochs={killed.saved + 2}"]
    shutil.copytree(killed.directory, "resumed")
    run(*flags, "--resume", log_dir="resumed")
    run(*flags, log_dir="whole")
    assert_same(outcome("resumed"), outcome("whole"))


def copies_of_each_moment(*flags) -> list[Path]:
    """Train in run/ and return copies of it: one from each moment at which a file had changed.

    SIGKILL leaves what is in the files, and nothing of what waits in memory to be written.
    """
    source_files = {str(path) for path in Path(train.__file__).parent.glob("*.py")}
    copies = []
    states = [[]]

    def copy_if_changed(frame, *_):
        if frame.f_code.co_filename in source_files:
            state = [(path, path.stat().st_size, path.stat().st_mtime_ns)
                     for path in sorted(Path("run").glob("*"))]
            if state != states[-1]:
                states.append(state)
                copies.append(shutil.copytree("run", Path(f"moment-{len(copies)}")))

    sys.setprofile(copy_if_changed)  # called whenever a function is entered or left
    try:
        run(*flags)
    finally:
        sys.setprofile(None)
    return copies


def saved_files(directory: Path) -> list[tuple]:
    """Return the names and sizes of a checkpoint and of an unfinished one."""
    return [(path.name, path.stat().st_size) for path in sorted(directory.glob("checkpoint*"))]


def test_a_kill_at_any_moment_resumes_to_the_same_bits():
    """Also between the log and the checkpoint, when the epoch is trained and logged again."""
    flags = [*FLAGS, "--epochs=2"]
    copies = copies_of_each_moment(*flags)
    whole = outcome("run")
    stages = [list(stage) for _, stage in groupby(copies, saved_files)]
    saved = {len(checkpoint(stage[0])["history"]) for stage in stages
             if Path(stage[0], "checkpoint.pt").exists()}
    assert saved == {1, 2}, "an epoch was not saved when it ended"
    for stage in stages:
        for moment in {stage[0], stage[-1]}:  # the event file grew, too, in many steps
            run(*flags, "--resume", log_dir=moment)
            assert_same(outcome(moment), whole, f"{moment}: {saved_files(stage[0])}")


def test_an_open_tensorboard_sees_all_epochs(monkeypatch):
    """It looks before and after two starts, whose event files it knows by their names."""
    start = time.time()
    quick_run("--epochs=1")
    events = EventAccumulator("run", {"scalars": 0}).Reload()
    for epochs in 2, 3:
        monkeypatch.setattr(time, "time", lambda minutes=epochs: start + 60 * minutes)
        quick_run("--epochs", epochs, "--resume")
    steps = [event.step for event in events.Reload().Scalars("loss/val")]
    assert steps == [1, 2, 3]


# Full disk: there is room for the event files, but not for the 320 kB of a checkpoint


def test_a_full_disk_keeps_the_last_checkpoint():
    quick_run("--epochs=1")
    saved = checkpoint()
    with disk_for(200_000), pytest.raises(SystemExit):
        quick_run("--epochs=2", "--resume")
    assert checkpoint() == saved


def test_a_run_resumes_after_a_full_disk():
    """Which was full at the first checkpoint, and again at the second one."""
    for epochs in 1, 2:
        with disk_for(200_000), pytest.raises(SystemExit):
            quick_run("--epochs", epochs, "--resume")
        assert len(quick_run("--epochs", epochs, "--resume")) == epochs


def test_an_epochs_line_says_that_the_epoch_is_saved(capsys):
    with disk_for(200_000), pytest.raises(SystemExit):
        quick_run("--epochs=1")
    *_, titles = capsys.readouterr().out.splitlines()
    assert titles.startswith("epoch"), "there is a line for an epoch that was not saved"


# Longer, finished, and the learning rate


def test_a_finished_run_can_be_made_longer():
    quick_run(*FLAGS, "--epochs=1")
    quick_run(*FLAGS, "--epochs=3", "--resume")
    quick_run(*FLAGS, "--epochs=3", log_dir="whole")
    assert_same(outcome("run"), outcome("whole"))


def test_a_finished_run_needs_no_data(plain_run, capsys):
    for epochs in 4, 1:
        flags = [*plain_run.flags, f"--epochs={epochs}", "--resume", "--data-dir=gone"]
        assert train.main(flags) == plain_run.history
        assert f"{plain_run.directory}: already finished, 4 epochs; " in capsys.readouterr().out


def test_resume_without_a_checkpoint_begins_a_run():
    assert len(quick_run("--epochs=1", "--resume")) == 1


def test_the_learning_rate_and_the_wait_for_a_low_are_resumed(monkeypatch):
    dictate_losses(monkeypatch, val=[1, 2, 2, 2, 2, 2, 2, 2])
    for epochs in 3, 5, 8:
        history = quick_run("--epochs", epochs, "--resume")
    rates = [metrics["learning_rate"] for metrics in history]
    assert rates == pytest.approx([0.2] * 4 + [0.02] * 3 + [0.002])


# The same settings


def test_all_settings_that_changed_are_named_and_refused(plain_run):
    flags = ["--init=zero", "--augment", "--dropout=0.5", "--depth=2", "--hidden=21",
             "--examples=9", "--batch-size=64", "--lr=0.3", "--patience=3", "--seed=6"]
    words = ["--init was default but is now zero", "--augment was False but is now True",
             "--dropout was 0.0 but is now 0.5", "--depth was 1 but is now 2",
             "--hidden was 20 but is now 21", "--examples was 55000 but is now 9",
             "--batch-size was 120 but is now 64", "--lr was 0.5 but is now 0.3",
             "--patience was 2 but is now 3", "--seed was 5 but is now 6"]
    path = plain_run.directory / "checkpoint.pt"
    with pytest.raises(SystemExit) as end:
        train.main([*plain_run.flags, "--resume", *flags])
    assert end.value.code == (
        f"train.py: error: {path}: {', '.join(words)}; choose another --log-dir")


def test_threads_device_and_data_dir_may_change(data_dir):
    quick_run("--epochs=1")
    Path("moved").symlink_to(data_dir)
    flags = ["--threads=2", "--device=cpu:0", "--data-dir=moved"]
    assert len(quick_run("--epochs=1", "--resume", *flags)) == 1
