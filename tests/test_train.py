import copy
import importlib
import os
import resource
import signal
import sys
import time
from math import nan
from pathlib import Path
from unittest.mock import DEFAULT, Mock

import numpy
import pytest
import torch
from torch import nn

import download
import train
from conftest import EXPERIMENTS, ROOT, Harmful, checkpoint, noise, read_events, same, scalars
from model import MLP

SPLITS = ["train_clean", "val", "test", "mirrored"]


def by_hand(model: MLP, images, labels) -> list[float]:
    """Return the mean cross-entropy and the accuracy, computed in float64 numpy."""
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    x = numpy.maximum(images.double().flatten(1).numpy() / 255 @ w1.T + b1, 0) @ w2.T + b2
    losses = numpy.log(numpy.exp(x).sum(1)) - x[numpy.arange(len(x)), labels]
    return [losses.mean(), (x.argmax(1) == labels.numpy()).mean()]


def test_train_epoch_takes_the_steps_of_plain_sgd():
    model, criterion = MLP(), nn.CrossEntropyLoss()
    reference, optimizer = copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=0.5)
    batches = list(zip((noise(70) / 255).split(32), (torch.arange(70) % 10).split(32)))
    model.hidden.weight.grad = torch.ones(100, 784)  # left over from something else
    train.train_epoch(model, criterion, optimizer, batches)
    for images, labels in batches:
        loss, weights = criterion(reference(images), labels), list(reference.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
            weight.data -= 0.5 * gradient
    torch.testing.assert_close(dict(model.named_parameters()), dict(reference.named_parameters()))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_metrics_are_means_over_examples_and_dropout_is_on_in_training_only(
        run, monkeypatch, dropout):
    modes, forward = set(), MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda model, images: modes.add(
        (model.training, torch.is_grad_enabled())) or forward(model, images))
    metrics = run("--dropout", dropout, "--epochs", 2, "--seed", 3, "--hidden", 50,
                  "--lr", 1e-9, "--batch-size", 1000)[1]  # so slowly that no weight changes
    torch.manual_seed(3)
    model, splits = MLP(50), train.load_splits(Path("data"))
    for split in SPLITS:  # train_clean has 1,100 images and so a short last batch
        loss, accuracy = by_hand(model, *splits[split])
        assert metrics[f"loss/{split}"] == pytest.approx(loss, rel=1e-5)
        assert metrics[f"accuracy/{split}"] == pytest.approx(accuracy, abs=1e-3)
    clean = metrics["loss/train_clean"]
    assert (metrics["loss/train"] == pytest.approx(clean, rel=1e-5)) == (dropout == 0)
    assert modes == {(True, True), (False, False)} and len(metrics) == 10


def test_zero_init_trains_only_the_output_bias(run):
    run("--init", "zero", "--epochs", 2)
    for name, weight in checkpoint("run")["model"].items():
        norms = [norm > 0 for _, norm in scalars("run")[f"gradient_norm/{name}"]]
        assert norms == [weight.any()] * 2 == [name == "output.bias"] * 2


def test_the_scheduler_looks_at_the_validation_loss_alone(run, monkeypatch):
    losses = iter([val if split == "val" else 9 - epoch  # the others fall all the time
                   for epoch, val in enumerate([1, 2, 2, 2, 2, 2]) for split in SPLITS])
    monkeypatch.setattr(train, "evaluate", lambda *_: (next(losses), 0.5))
    rates = [metrics["learning_rate"] for metrics in run("--epochs", 6)]
    assert rates == pytest.approx([0.2] * 4 + [0.02] * 2)


def test_same_seed_same_bits_and_shuffled_test_labels_change_no_weight(run, monkeypatch):
    flags = "--augment", "--dropout", 0.5, "--lr", 4, "--epochs", 14  # a rate that has to fall
    run(*flags, log_dir="first")
    run(*flags, log_dir="again")
    splits = train.load_splits(Path("data"))
    for split in "train_clean", "test", "mirrored":
        splits[split] = splits[split][0], splits[split][1].flip(0)
    monkeypatch.setattr(train, "load_splits", lambda *_: splits)
    run(*flags, log_dir="shuffled")
    first, again, shuffled = map(checkpoint, ("first", "again", "shuffled"))
    assert same(first, again) and first["history"][-1]["learning_rate"] < 4
    assert first["history"][-1]["loss/test"] != shuffled["history"][-1]["loss/test"]
    assert all(same(first[part], shuffled[part]) for part in ("model", "optimizer", "scheduler"))


def test_runs_of_a_seed_see_the_same_order_and_two_seeds_share_no_epoch(run, monkeypatch):
    orders, sums = [], []  # of the labels in their batches, and of all pixels, for each epoch

    def record(model, criterion, optimizer, batches):
        images, labels = zip(*batches)
        orders.append(str([batch.tolist() for batch in labels]))
        sums.append(torch.cat(images).double().sum().item())
        return 1.0

    monkeypatch.setattr(train, "train_epoch", record)
    monkeypatch.setattr(train, "log_epoch", lambda *_: None)
    for i, flags in enumerate([*EXPERIMENTS.values(), *(["--seed", seed] for seed in (1, 2, 3))]):
        run(*flags, "--epochs", 3, "--batch-size", 550, log_dir=i)
    assert orders[:15] == orders[:3] * 5 and len(set(orders)) == 4 * 3
    assert {order.count("[") for order in orders} == {3}  # two batches in a list
    assert [total == pytest.approx(sums[0]) for total in sums[:15]] == [True] * 9 + [False] * 6


def test_a_run_killed_by_sigkill_or_at_any_step_resumes_to_the_same_bits_and_whole_curves(
        run, start, monkeypatch):
    flags = ["--augment", "--dropout=0.5", "--hidden=20", "--epochs=25", "--batch-size=10"]

    def die(module, name, call):
        effects = [DEFAULT] * (call - 1) + [KeyboardInterrupt]
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, Mock(wraps=getattr(module, name), side_effect=effects))
            run(*flags, "--resume")

    die(train, "train_epoch", 1)  # before there is a checkpoint
    process = start(*flags, "--resume", "--log-dir=run")
    run(*flags, log_dir="whole")
    assert any(line.startswith("    2 ") for line in process.stdout)
    process.kill()
    assert process.wait() == -signal.SIGKILL and len(checkpoint("run")["history"]) < 19
    time.sleep(1)  # TensorBoard reads event files in the order of the seconds in their names
    for step in ((train, "log_epoch", 3), (os, "replace", 1), (train, "save_checkpoint", 2),
                 (train, "log_end", 1)):
        die(*step)
    run(*flags, "--resume")
    assert same(checkpoint("whole"), checkpoint("run")) and same(scalars("whole"), scalars("run"))
    for tag, steps in ("inputs", [0]), ("filters", [0, 5, 10, 15, 20, 25]):
        assert [event.step for event in read_events("run").Images(tag)] == steps
    names = [path.name.split(".")[0] for path in Path("run").iterdir()]
    assert sorted(names) == ["checkpoint"] + ["events"] * 7


def test_what_the_checkpoint_holds_is_flushed_to_tensorboard_before(run, monkeypatch):
    calls = []
    monkeypatch.setattr(train.SummaryWriter, "flush", lambda writer: calls.append("flush"))
    monkeypatch.setattr(train, "save_checkpoint", lambda *_: calls.append("save"))
    run("--epochs", 2)
    assert calls == ["flush", "save"] * 2


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name(run, monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(os.fstat(file).st_size > 300_000))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("move") or replace(*paths))
    run("--epochs", 1)
    assert calls == [True, "move"]


def test_a_checkpoint_whose_scheduler_has_a_key_more_or_less_resumes(run, capsys):
    run("--epochs", 4, log_dir="whole")
    run("--epochs", 2)
    content = checkpoint("run")
    content["scheduler"].pop("default_min_lr", None)  # as in 2.4, which has "verbose" instead
    content["scheduler"]["verbose"] = False
    torch.save(content, "run/checkpoint.pt")
    history = run("--epochs", 4, "--resume")
    one, other = checkpoint("whole"), checkpoint("run")
    assert all(same(one[part], other[part]) for part in ("model", "settings", "history"))
    for epochs in 1, 4:  # which needs no data
        assert run("--epochs", epochs, "--resume", "--data-dir", "gone") == history
    assert "run: finished already, 4 epochs" in capsys.readouterr().out


def test_hostile_damaged_and_unfitting_checkpoints_get_one_line_and_run_no_code(run):
    run("--epochs", 1)
    path, good = Path("run/checkpoint.pt"), checkpoint("run")
    whole, flags = path.read_bytes(), good["settings"] | {"lr": 0.1, "batch_size": 5}
    network = good["model"] | {"hidden.weight": torch.zeros(50, 784)}
    for content, reason in (
            (b"hello\n", "damaged"), (whole[:-1], "damaged"), ([1, 2], "damaged"),
            ({"state_dict": {}}, "damaged"), (good | {"history": Harmful()}, "damaged"),
            (good | {"model": network}, "the network in model.py is not the one that was saved"),
            (good | {"settings": flags}, "--batch-size was 5 and is 128, --lr was 0.1 and is 0.2")):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        before = path.read_bytes()
        with pytest.raises(SystemExit, match=f"^train.py: error: {path}.*{reason}[^\n]*$"):
            run("--epochs", 2, "--resume")
        assert path.read_bytes() == before and not Path("harm").exists()


@pytest.mark.parametrize("flag", [
    "--dropout=1", "--dropout=nan", "--dropout=-0.1", "--drop=0.5", "--epochs=0", "--lr=inf",
    "--lr=0", "--hidden=0", "--batch-size=0", "--seed=-1", "--seed=100000", "--threads=0",
    "--init=he", "--device=meta", "--device=nonsense", "--data-dir=file", "--log-dir=file",
    "--log-dir=events", "--log-dir=checkpoint"])
def test_bad_flags_get_one_line_and_code_2_before_any_work(flag, capsys, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("began to work"))
    for path in Path("file"), Path("events/events.out.1"), Path("checkpoint/checkpoint.pt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(SystemExit, match="^2$"):
        train.main(["--log-dir=new", flag])
    line, end = capsys.readouterr().err.split("\n")
    assert ": error: " in line and flag.split("=")["dir" in flag] in line  # the flag, or directory


@pytest.mark.parametrize("train_loss, val_loss", [(nan, 1.0), (1.0, nan), (1e9, 1.0), (1.0, 1e9)])
def test_a_loss_that_explodes_stops_the_run_with_the_remedy(run, monkeypatch, train_loss, val_loss):
    monkeypatch.setattr(train, "train_epoch", lambda *_: train_loss)
    monkeypatch.setattr(train, "evaluate", lambda *_: (val_loss, 0.5))
    with pytest.raises(SystemExit, match="^train.py: error: the loss of epoch 1 .* --lr lower"):
        run()
    assert "loss/train" not in scalars("run") and not Path("run/checkpoint.pt").exists()


def test_a_full_disk_and_ctrl_c_are_one_line_with_codes_1_and_130(start):
    # A limit on the size of files fails as a full disk does, in write() itself: at 200 kB in the
    # first checkpoint, which has 320 kB, and at 600 kB in later events.
    full = [start("--epochs", 100, "--batch-size", 5000, f"--log-dir=läufe {limit}",
        preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            for limit in (200_000, 600_000)]
    process = start("--log-dir=run", preexec_fn=lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler))
    assert process.stdout.readline().endswith("run: epochs 1 to 20\n")
    process.send_signal(signal.SIGINT)
    for ended, code, words in ((process, 130, "--resume"), (full[0], 1, "läufe 200000: File too"),
                               (full[1], 1, "läufe 600000: File too large\n")):
        errors = ended.communicate()[1]
        assert ended.returncode == code and errors.count("\n") == 1 and words in errors
    assert [path.parent.name for path in Path().glob("l*/checkpoint*")] == ["läufe 600000"]
    assert len(checkpoint("läufe 600000")["history"]) > 1


def test_nothing_that_only_unix_has_is_needed(raw, monkeypatch):
    for name in "data", "download", "init", "log", "model", "results", "train":
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in "fcntl", "resource", "pwd", "grp", "termios", "syslog":
        monkeypatch.setitem(sys.modules, name, None)
    for name in "os.fork", "os.getuid", "os.uname", "os.killpg", "signal.SIGKILL", "signal.SIGHUP":
        monkeypatch.delattr(name)
    fresh, results = importlib.import_module("train"), importlib.import_module("results")
    monkeypatch.setattr(sys.modules["download"], "FILES", download.FILES)
    fresh.main(["--data-dir=data", "--log-dir=run", "--epochs=2", "--augment"])
    assert len(results.main(["run"])) == 1


def test_the_console_shows_a_table_of_80_columns_and_threads_are_counted(run, capsys):
    history = run("--epochs", 2, "--threads", 2, log_dir="my runs/one")
    assert torch.get_num_threads() == 2
    title, _, header, *rows, last, hint = capsys.readouterr().out.splitlines()
    assert title == "my runs/one: epochs 1 to 2"
    assert " ".join(header.split()) == "epoch train val test val test mirrored rate seconds"
    tags = ["loss/train", "loss/val", "loss/test",
            "accuracy/val", "accuracy/test", "accuracy/mirrored"]
    for epoch, (metrics, row) in enumerate(zip(history, rows, strict=True), start=1):
        numbers = "".join(f"{metrics[tag]:9.4f}" for tag in tags)
        assert row[:-9] == f"{epoch:5}{numbers}        0.2" and 0 < float(row[-9:]) < 60
        assert len(row) == len(header) <= 80
    loss, test, mirrored = (metrics[tag] for tag in (tags[0], *tags[-2:]))
    assert last == f"train loss {loss:.4f}, test accuracy {test:.4f}, mirrored {mirrored:.4f}"
    assert hint == 'see it: tensorboard --logdir "my runs"'
    run("--epochs", 1)
    assert torch.get_num_threads() == 1


def test_the_default_directory_is_named_after_what_differs_from_the_defaults(home):
    def parse(*flags):
        return train.parse_args([*flags, "--resume"])

    assert parse().settings == {"init": "default", "augment": False, "dropout": 0.0, "hidden": 100,
                                "epochs": 20, "batch_size": 128, "lr": 0.2, "seed": 0}
    assert [parse().threads, parse().device, parse().data_dir] == [1, "cpu", ROOT / "datasets"]
    named = {"zero-lr0.05-seed3": ["--seed=3", "--lr=0.05", "--epochs=9", "--init=zero"]}
    for name, flags in (EXPERIMENTS | named).items():
        assert parse(*flags).log_dir == Path("runs", name)
    others = ["--lr=0.1234567", "--lr=0.1234568", "--dropout=0.1", "--dropout=0.5", "--hidden=10",
              "--dropout=0.55", "--batch-size=10", "--seed=10", "--augment", "--init=kaiming"]
    assert len({parse(flag).log_dir for flag in others}) == len(others)
    args = parse("--log-dir=~/x", "--data-dir=~/y")
    assert [args.log_dir, args.data_dir] == [home / "x", home / "y"]
