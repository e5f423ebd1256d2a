import json
import math
import os
import re
import resource
import signal
import subprocess
import threading
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import download
import evaluate
import train
from conftest import ROOT, checkpoint, equal
from data import batches
from download import Failure
from init import initialize
from model import MLP

SCALARS = {
    "loss/train", "loss/val", "loss/test", "accuracy/val", "accuracy/test", "learning_rate",
    "gradient_norm/hidden.weight", "gradient_norm/hidden.bias",
    "gradient_norm/output.weight", "gradient_norm/output.bias",
}
EXPERIMENTS = {
    "vanilla": (),
    "zero": ("--init", "zero"),
    "xavier": ("--init", "xavier"),
    "xavier-augment": ("--init", "xavier", "--augment"),
    "xavier-augment-dropout": ("--init", "xavier", "--augment", "--dropout", "0.5"),
}


def read_events(log_dir) -> EventAccumulator:
    return EventAccumulator(str(log_dir), {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}).Reload()


def scalars(log_dir) -> dict[str, list[tuple[int, float]]]:
    """Return {tag: [(step, value), ...]} as TensorBoard reads them."""
    events = read_events(log_dir)
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


# ---- What the lesson claims


def test_the_network_learns(run):
    history = run("--epochs", 3, "--batch-size", 10)
    assert history[0]["loss/train"] > history[-1]["loss/train"]
    assert history[-1]["loss/val"] < 0.5 and history[-1]["accuracy/test"] > 0.9


def test_zero_init_trains_only_the_output_bias(run, tmp_path):
    history = run("--init", "zero", "--epochs", 10)
    weights = checkpoint(tmp_path / "run")["model"]
    assert weights["output.bias"].all()
    for name in ("hidden.weight", "hidden.bias", "output.weight"):
        assert not weights[name].any()
        assert all(metrics[f"gradient_norm/{name}"] == 0 for metrics in history)
    assert all(metrics["gradient_norm/output.bias"] > 0 for metrics in history)


def test_zero_init_ends_at_the_entropy_of_the_class_frequencies():
    torch.manual_seed(0)
    images = torch.randint(256, (10, 28, 28), dtype=torch.uint8)
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    model = MLP()
    initialize(model, "zero")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(2000):
        loss = train.train_epoch(model, nn.CrossEntropyLoss(), optimizer, images, labels, 10)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert loss == pytest.approx(entropy, abs=0.003)


def test_softmax_applied_twice_does_not_train_under_1_46():
    class SoftmaxTwice(MLP):
        def forward(self, images):
            return super().forward(images).softmax(1)

    torch.manual_seed(0)
    images = torch.randint(256, (20, 28, 28), dtype=torch.uint8)
    labels = torch.arange(20) % 10
    losses = []
    for model in MLP(), SoftmaxTwice():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(300):
            loss = train.train_epoch(model, nn.CrossEntropyLoss(), optimizer, images, labels, 20)
        losses.append(loss)
    assert losses[0] < 0.1 and losses[1] > 1.46


def test_the_loss_is_the_mean_over_examples_even_when_the_last_batch_is_short():
    torch.manual_seed(0)
    images, labels = torch.randint(256, (101, 28, 28), dtype=torch.uint8), torch.arange(101) % 10
    labels[100], images[100] = 9, 255  # alone in its batch: a mean of batch means overrates it
    model = MLP()
    (batch, _), = batches(images, labels, 101)
    expected = nn.functional.cross_entropy(model(batch), labels).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = train.train_epoch(model, nn.CrossEntropyLoss(), optimizer, images, labels, 50)
    assert loss == pytest.approx(expected, rel=1e-6)


def test_train_epoch_takes_the_steps_of_plain_sgd():
    torch.manual_seed(0)
    images, labels = torch.randint(256, (70, 28, 28), dtype=torch.uint8), torch.arange(70) % 10
    model = MLP()
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train.train_epoch(model, nn.CrossEntropyLoss(), optimizer, images, labels, 32)
    for some_images, some_labels in batches(images, labels, 32):
        logits = torch.func.functional_call(MLP(), weights, (some_images,))
        loss = (logits.logsumexp(1) - logits[range(len(some_labels)), some_labels]).mean()
        gradients = torch.autograd.grad(loss, weights.values())
        for weight, gradient in zip(weights.values(), gradients):
            weight.data -= 0.5 * gradient
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name])


def test_the_scheduler_lowers_the_learning_rate_when_the_validation_loss_stalls(run):
    # With so small a rate nothing moves: after the first epoch come three without improvement.
    history = run("--lr", 1e-6, "--epochs", 6)
    rates = [metrics["learning_rate"] for metrics in history]
    assert rates == pytest.approx([1e-6] * 4 + [1e-7] * 2)


def test_the_scheduler_looks_at_the_validation_loss_alone(run, monkeypatch):
    values = iter([1.0, 9, 2.0, 8, 2.0, 7, 2.0, 6, 2.0, 5])  # val, test, val, test, ...
    monkeypatch.setattr(train, "evaluate", lambda model, images, labels: (next(values), 0.5))
    assert [m["learning_rate"] for m in run("--epochs", 5)] == pytest.approx([0.2] * 4 + [0.02])


def test_shuffling_the_test_labels_changes_no_weight(run, tmp_path, monkeypatch):
    flags = "--lr", 2, "--epochs", 8  # so large a rate that the scheduler has to act
    run(*flags)
    load_splits = train.load_splits

    def shuffled(*args):
        splits = load_splits(*args)
        images, labels = splits["test"]
        splits["test"] = images, labels[torch.randperm(len(labels))]
        return splits

    monkeypatch.setattr(train, "load_splits", shuffled)
    run(*flags, log_dir=tmp_path / "shuffled")
    one, other = checkpoint(tmp_path / "run"), checkpoint(tmp_path / "shuffled")
    assert one["history"][-1]["loss/test"] != other["history"][-1]["loss/test"]
    assert one["history"][-1]["learning_rate"] < 2
    for part in ("model", "optimizer", "scheduler"):
        assert equal(one[part], other[part])


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not(run, tmp_path):
    for name, seed in ("a", 7), ("b", 7), ("c", 8):
        run("--augment", "--dropout", 0.5, "--epochs", 2, "--seed", seed, log_dir=tmp_path / name)
    a, b, c = (checkpoint(tmp_path / name) for name in "abc")
    assert equal(a, b)
    assert not equal(a["model"], c["model"])


def test_augmentation_and_dropout_raise_the_training_loss(run, tmp_path):
    losses = [run(*flags, "--epochs", 4, log_dir=tmp_path / name)[-1]["loss/train"]
              for name, flags in EXPERIMENTS.items() if name.startswith("xavier")]
    assert losses == sorted(losses)


# ---- What a run leaves behind


def test_the_event_file_holds_all_tags_with_the_right_steps(run, tmp_path):
    history = run("--augment", "--epochs", 6)
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "run").iterdir()) == ["checkpoint", "events"]
    logged = scalars(tmp_path / "run")
    assert logged.keys() == SCALARS
    for tag, points in logged.items():
        assert points == [(i + 1, pytest.approx(m[tag])) for i, m in enumerate(history)]
    events = read_events(tmp_path / "run")
    histograms = events.Tags()["histograms"]
    names = ["hidden.bias", "hidden.weight", "output.bias", "output.weight"]
    assert sorted(histograms) == [f"{kind}/{name}" for kind in ("gradients", "weights") for name in names]
    assert all([e.step for e in events.Histograms(tag)] == [1, 2, 3, 4, 5, 6] for tag in histograms)
    assert {tag: [e.step for e in events.Images(tag)] for tag in events.Tags()["images"]} == {
        "batch": [1], "filters": [0, 5], "mistakes": [6]}
    texts = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    assert {tag: [e.step for e in values] for tag, values in texts.items()} == {
        "confusion_matrix/text_summary": [6], "flags/text_summary": [6]}
    (flags,) = texts["flags/text_summary"][0].tensor_proto.string_val
    assert b"| augment | True |" in flags and b"| lr | 0.2 |" in flags
    (matrix,) = texts["confusion_matrix/text_summary"][0].tensor_proto.string_val
    counts = [[int(cell) for cell in line.split("|")[2:-1]] for line in matrix.decode().splitlines()[2:]]
    assert sum(map(sum, counts)) == 300  # the test images
    right = sum(row[i] for i, row in enumerate(counts))
    assert right / 300 == pytest.approx(history[-1]["accuracy/test"])
    assert {"_hparams_/session_start_info", "_hparams_/experiment"} <= events.summary_metadata.keys()


def test_the_histograms_hold_the_weights_of_the_checkpoint(run, tmp_path):
    run("--epochs", 1)
    weight = checkpoint(tmp_path / "run")["model"]["hidden.weight"]
    histogram = read_events(tmp_path / "run").Histograms("weights/hidden.weight")[0].histogram_value
    assert histogram.num == weight.numel()
    assert histogram.sum == pytest.approx(weight.sum().item(), rel=1e-4)
    assert histogram.max == pytest.approx(weight.max().item())


def test_the_console_shows_every_number_of_every_epoch(run, capsys):
    history = run("--epochs", 2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "79,510 parameters" in lines[0] and "tensorboard" in lines[-1]
    for metrics, line in zip(history, lines[1:3]):
        for tag, value in metrics.items():
            digits = ".3g" if "norm" in tag else "g" if tag == "learning_rate" else ".4f"
            assert f" {value:{digits}}" in line


def test_the_default_directory_tells_what_differs_from_the_defaults():
    def name(*flags):
        return str(train.parse_args([*flags, "--resume"]).log_dir)

    assert [name(*flags) for flags in EXPERIMENTS.values()] == [f"runs/{run}" for run in EXPERIMENTS]
    assert name("--lr", "0.05") == "runs/vanilla-lr0.05"
    assert name("--init", "xavier", "--seed", "3") == "runs/xavier-seed3"
    others = ["--lr=0.1234567", "--lr=0.1234568", "--dropout=0.1", "--dropout=0.5", "--hidden=10",
              "--epochs=10", "--batch-size=10", "--seed=10", "--augment", "--init=kaiming"]
    assert len({name(flag) for flag in others}) == len(others)


# ---- Resuming


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_resumed_run_equals_one_that_was_never_stopped(run, tmp_path, monkeypatch, name):
    flags = *EXPERIMENTS[name], "--epochs", 6, "--batch-size", 500
    run(*flags)
    # Stopped before any checkpoint, in the middle of logging, and before the checkpoint is moved.
    stops = iter([("train_epoch", 1), ("log_epoch", 3), ("write_whole", 2), ("log_end", 1)])
    for function, call in stops:
        original, calls = getattr(train, function), []

        def stop(*args, original=original, calls=calls, call=call, **kwargs):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        monkeypatch.setattr(train, function, stop)
        with pytest.raises(KeyboardInterrupt):
            run(*flags, "--resume", log_dir=tmp_path / "stopped")
        monkeypatch.setattr(train, function, original)
    run(*flags, "--resume", log_dir=tmp_path / "stopped")
    assert equal(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "stopped"))
    assert scalars(tmp_path / "run") == scalars(tmp_path / "stopped")
    one, other = read_events(tmp_path / "run"), read_events(tmp_path / "stopped")
    for tag in one.Tags()["images"]:
        assert [(e.step, e.encoded_image_string) for e in one.Images(tag)] == [
            (e.step, e.encoded_image_string) for e in other.Images(tag)]


def test_a_run_killed_at_any_moment_goes_on_as_if_nothing_had_been(run, start, tmp_path):
    flags = "--augment", "--dropout", "0.5", "--epochs", "12", "--batch-size", "10"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes: the number decides the order of summation
    run(*flags, log_dir=tmp_path / "whole")
    torch.set_num_threads(threads)
    kills = 0
    for delay in (0.05, 0.25):
        process = start(*flags, "--resume")
        lines = (process.stdout.readline() for _ in range(3))
        assert any(line.startswith("epoch") for line in lines)
        time.sleep(delay)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert start(*flags, "--resume").wait() == 0
    assert equal(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run"))
    assert scalars(tmp_path / "whole") == scalars(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_more_epochs_train_a_finished_run_on(run, tmp_path, capsys):
    run("--epochs", 4, log_dir=tmp_path / "whole")
    run("--epochs", 2)
    run("--epochs", 4, "--resume")
    assert equal(checkpoint(tmp_path / "whole")["model"], checkpoint(tmp_path / "run")["model"])
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    capsys.readouterr()
    run("--epochs", 3, "--resume")
    assert "finished already, 4 epochs" in capsys.readouterr().out
    assert before == sorted(path.name for path in (tmp_path / "run").iterdir())


def test_flags_that_contradict_the_checkpoint_are_named(run):
    run("--epochs", 1)
    with pytest.raises(Failure, match=r"--hidden was 100 and is 50, --lr was 0.2 and is 0.1"):
        run("--epochs", 1, "--resume", "--lr", 0.1, "--hidden", 50)


def test_a_directory_that_holds_a_run_is_refused_without_resume(run, capsys):
    run("--epochs", 1)
    with pytest.raises(SystemExit, match="2"):
        run("--epochs", 1)
    assert "--resume" in capsys.readouterr().err


def test_of_two_processes_in_one_directory_the_second_waits_and_then_goes_on(run, start, tmp_path):
    run("--epochs", 1)
    with download.locked(tmp_path / "run"):
        process = start("--epochs", "1", "--resume")
        assert "waiting for another process" in process.stderr.readline()
        assert process.poll() is None
    output, _ = process.communicate()
    assert process.returncode == 0 and "finished already" in output


# ---- What goes wrong


@pytest.mark.parametrize("flags", [
    "--dropout 1", "--dropout nan", "--dropout -0.1", "--epochs 0", "--epochs 1.5", "--lr -1",
    "--lr inf", "--lr nan", "--lr 0", "--hidden 0", "--batch-size 0", "--seed -1", "--init he",
    "--device cuda", "--data-dir {file}", "--log-dir {file}", "--log-dir {run}", "--drop 0.5",
])
def test_bad_input_gets_one_line_and_exit_code_2_before_any_work(flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "load_splits", lambda *args: pytest.fail("began to work"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.out.tfevents.1").touch()
    before = sorted(tmp_path.rglob("*"))
    flags = flags.format(file=tmp_path / "file", run=tmp_path / "run").split()
    with pytest.raises(SystemExit) as exit_info:
        train.main(["--log-dir", str(tmp_path / "new"), *flags])
    errors = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert errors.count("\n") == 1 and "error: " in errors and flags[0].removesuffix("-dir")[2:] in errors
    assert sorted(tmp_path.rglob("*")) == before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(run, tmp_path, monkeypatch):
    with pytest.raises(Failure, match=r"not finite, .* in epoch 1 .*nan.* lower --lr"):
        run("--lr", 1e20, log_dir=tmp_path / "first")
    run("--epochs", 1)
    monkeypatch.setattr(train, "train_epoch", lambda *args: math.nan)
    with pytest.raises(Failure, match="not finite, .* in epoch 2"):
        run("--epochs", 2, "--resume")
    assert checkpoint(tmp_path / "run")["epoch"] == 1
    assert all(step == 1 for step, _ in scalars(tmp_path / "run")["loss/train"])


def test_an_absurd_learning_rate_stops_the_run_even_if_the_loss_stays_finite(run):
    with pytest.raises(Failure, match=r"epoch 1 \(train \d.*\); start again with a lower --lr than 1e\+06"):
        run("--lr", 1e6, "--batch-size", 20)


@pytest.mark.parametrize("limit", [20_000, 200_000, 600_000])
def test_a_full_disk_is_a_failure_that_names_the_directory(run, tmp_path, limit, monkeypatch):
    # A limit on the size of files fails as a full disk does, in write() itself: at 20 kB in the
    # first events, at 200 kB in the checkpoint, which has 330 kB, and at 600 kB in later events.
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(Failure, match=re.escape(str(tmp_path / "run"))):
            run("--epochs", 100, "--batch-size", 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "run").glob("*.tmp"))
    if limit == 600_000:
        loaded, _ = evaluate.load_checkpoint(tmp_path / "run" / "checkpoint.pt")
        assert loaded["epoch"] > 1


def test_a_failure_is_one_line_on_stderr_and_exit_code_1(start, tmp_path):
    process = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.startswith("train.py: error: ") and errors.count("\n") == 1
    assert str(tmp_path / "run") in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["import", "epoch"])
def test_a_signal_ends_a_run_with_one_line_that_says_how_to_go_on(start, number, code, moment):
    process = start("--epochs", "100000", "--batch-size", "50")
    if moment == "import":
        time.sleep(0.7)
    else:
        assert any(process.stdout.readline().startswith("epoch") for _ in range(3))
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert errors.count("\n") == 1 and "--resume" in errors


def test_a_closed_pipe_ends_a_run_without_a_traceback(start, tmp_path):
    process = start("--epochs", "100000", "--batch-size", "50")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait() == -signal.SIGPIPE
    assert process.stderr.read() == ""


@pytest.mark.parametrize("flags", [
    ("--batch-size", "7"), ("--batch-size", "999999"), ("--hidden", "1"), ("--dropout", "0"),
    ("--init", "kaiming"),
])
def test_odd_but_legal_flags_work(run, flags):
    assert len(run("--epochs", "1", *flags)) == 1


def test_odd_but_legal_surroundings_work(start, tmp_path, launcher, data_dir):
    """Another working directory, a relative path with blanks and umlauts, no HOME, a C locale."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    command = [launcher, ROOT / "train.py", "--epochs", "1", "--data-dir", "data",
               "--log-dir", "läufe und mehr/1. Lauf"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0 and done.stderr == ""
    assert (tmp_path / "läufe und mehr" / "1. Lauf" / "checkpoint.pt").is_file()


def test_the_checkpoint_is_plain(run, tmp_path):
    run("--epochs", 1)
    content = checkpoint(tmp_path / "run")
    assert content["flags"]["lr"] == 0.2 and content["epoch"] == 1 and len(content["history"]) == 1
    json.dumps({key: content[key] for key in ("run", "flags", "epoch", "history", "scheduler")})


@pytest.mark.parametrize("script", [train, evaluate, download])
def test_help_fits_one_screen(script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    assert len(capsys.readouterr().out.splitlines()) <= 30
