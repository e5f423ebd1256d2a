import os
import signal
import time
from pathlib import Path

import numpy
import pytest
import torch

import train
from conftest import EXPERIMENTS, ROOT, checkpoint, logged, run, start
from model import MLP


def by_hand(w1, b1, w2, b2, images, labels) -> tuple[float, float, list[numpy.ndarray]]:
    """Return mean cross-entropy, accuracy and gradients, computed in numpy in float64."""
    pixels, truth = images.flatten(1).double().numpy() / 255, numpy.eye(10)[labels]
    hidden = numpy.maximum(pixels @ w1.T + b1, 0)
    odds = numpy.exp(hidden @ w2.T + b2)
    probabilities = odds / odds.sum(1, keepdims=True)
    error = (probabilities - truth) / len(labels)  # the gradients of the logits
    back = error @ w2 * (hidden > 0)
    gradients = [back.T @ pixels, back.sum(0), error.T @ hidden, error.sum(0)]
    accuracy = (probabilities.argmax(1) == labels.numpy()).mean()
    return -numpy.log((probabilities * truth).sum(1)).mean(), accuracy, gradients


def test_a_run_takes_the_steps_of_plain_sgd_and_shows_means_over_examples(capsys, monkeypatch):
    modes, forward = set(), MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda model, images: modes.add(
        (model.training, torch.is_grad_enabled(), model.dropout.p)) or forward(model, images))
    history = run("--epochs", 2, "--seed", 9, "--hidden", 50, "--threads", 3, "--lr", 1,
                  "--batch-size", 512, "--dropout", 1e-30, log_dir="a/b c/1")  # none drops
    assert torch.get_num_threads() == 3 and modes == {(True, True, 1e-30), (False, False, 1e-30)}
    title, _, header, *rows, last, hint = capsys.readouterr().out.splitlines()
    torch.manual_seed(9)
    weights = [weight.detach().double().numpy() for weight in MLP(50).parameters()]
    splits = train.load_splits(Path("data"))
    for epoch, (metrics, row) in enumerate(zip(history, rows, strict=True), start=1):
        torch.manual_seed(9 + 100_000 * epoch)
        losses = []
        for indices in torch.randperm(1100).split(512):  # 512, 512 and 76 images
            loss, _, gradients = by_hand(*weights, *(part[indices] for part in splits["train"]))
            losses += [loss] * len(indices)
            weights = [weight - gradient for weight, gradient in zip(weights, gradients)]  # rate 1
        expected = {"loss/train": numpy.mean(losses), "learning_rate": 1}
        for split in "train_clean", "val", "test", "mirrored":
            loss, accuracy, _ = by_hand(*weights, *splits[split])
            expected |= {f"loss/{split}": loss, f"accuracy/{split}": accuracy}
        assert metrics == pytest.approx(expected, rel=1e-4)
        shown = [f"{metrics[f'loss/{split}']:9.4f}" for split in ("train", "val", "test")]
        shown += [f"{metrics[f'accuracy/{split}']:9.4f}" for split in ("val", "test", "mirrored")]
        assert row[:-9] == f"{epoch:5}{''.join(shown)}          1" and 0 < float(row[-9:]) < 60
        assert len(row) == len(header) <= 80
    assert " ".join(header.split()) == "epoch train val test val test mirrored rate seconds"
    loss, *_, test, mirrored = map(str.strip, shown)
    assert last == f"train loss {loss}, test accuracy {test}, mirrored {mirrored}"
    assert [title, hint] == ["a/b c/1: epochs 1 to 2", 'see it: tensorboard --logdir "a/b c"']


def test_zero_init_trains_only_the_output_bias():
    run("--init", "zero", "--epochs", 2)
    events = logged("run")
    for name, weight in checkpoint("run")["model"].items():
        moves = [norm > 0 for _, norm in events[f"gradient_norm/{name}"]]
        assert moves == [numpy.any(weight)] * 2 == [name == "output.bias"] * 2


def test_the_scheduler_looks_at_the_validation_loss_alone_also_resumed(monkeypatch, capsys):
    losses = iter([loss for epoch, val in enumerate([1, 2, 2, 0.99, *[2] * 7])
                   for loss in (99 - epoch, val, 99 - epoch, 99 - epoch)])  # the others always fall
    monkeypatch.setattr(train, "evaluate", lambda *_: (next(losses), 0.5))
    run("--epochs", 9)  # the rate has fallen and, resumed, stays
    rates = [metrics["learning_rate"] for metrics in run("--epochs", 11, "--resume")]
    rows = [row for row in capsys.readouterr().out.splitlines() if row[:5].strip().isdigit()]
    shown = [float(row.split()[-2]) for row in rows]
    assert rates == pytest.approx(shown) and shown == [0.2] * 7 + [0.02] * 3 + [0.002]


def test_same_seed_same_bits_and_shuffled_test_labels_change_no_weight(monkeypatch):
    flags = "--augment", "--dropout", 0.5, "--lr", 4, "--epochs", 14  # a rate that has to fall
    before = run(*flags, log_dir="first")
    splits = train.load_splits(Path("data"))
    for split in "train_clean", "test", "mirrored":
        splits[split] = splits[split][0], splits[split][1].flip(0)
    monkeypatch.setattr(train, "load_splits", lambda *_: splits)
    after = run(*flags, log_dir="shuffled")
    first, shuffled = checkpoint("first"), checkpoint("shuffled")
    assert all(first[part] == shuffled[part] for part in ("model", "optimizer", "scheduler"))
    assert before[-1]["loss/test"] != after[-1]["loss/test"] and after[-1]["learning_rate"] < 4


def test_runs_of_a_seed_see_the_same_order_and_two_seeds_share_no_epoch(monkeypatch):
    epochs = []  # a list of batches each
    monkeypatch.setattr(train, "train_epoch", lambda *args: epochs.append([*args[-1]]) or 1.0)
    monkeypatch.setattr(train, "log_epoch", lambda *_: None)
    for i, flags in enumerate([*EXPERIMENTS.values(), *(["--seed", seed] for seed in (1, 2, 3))]):
        run(*flags, "--epochs", 3, "--batch-size", 550, log_dir=i)
    orders = [str([labels.tolist() for _, labels in batches]) for batches in epochs]
    assert orders[:15] == orders[:3] * 5 and len(set(orders)) == 4 * 3
    sums = [sum(images.double().sum() for images, _ in batches) for batches in epochs[:15]]
    assert [total == pytest.approx(sums[0]) for total in sums] == [True] * 9 + [False] * 6


def test_a_run_killed_by_sigkill_or_before_saving_resumes_to_the_same_bits_and_curves(monkeypatch):
    flags = ["--augment", "--dropout=0.5", "--hidden=20", "--epochs=25", "--batch-size=10"]

    def die_before_it_saves():
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(os, "replace", lambda *_: 1 / 0)
            run(*flags, "--resume")

    die_before_it_saves()  # even the first epoch
    assert not [*Path("run").glob("c*")]  # neither a checkpoint nor the beginning of one
    process = start(*flags, "--resume", "--log-dir=run")
    assert any(line.startswith("    2 ") for line in process.stdout)
    process.kill()
    assert process.wait() == -signal.SIGKILL and len(checkpoint("run")["history"]) < 19
    run(*flags, log_dir="whole")
    time.sleep(1)  # TensorBoard reads event files in the order of the seconds in their names
    die_before_it_saves()
    run(*flags, "--resume")
    assert checkpoint("whole") == checkpoint("run") and logged("whole") == logged("run")


def test_a_checkpoint_is_in_tensorboard_and_on_the_disk_before_it_gets_its_name(monkeypatch):
    calls, replace = [], os.replace
    monkeypatch.setattr(train.SummaryWriter, "flush", lambda writer: calls.append("flush"))
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(os.fstat(file).st_size > 300_000))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append(a.parent) or replace(a, b))
    run("--epochs", 2)
    assert calls == ["flush", True, Path("run")] * 2


def test_a_hostile_damaged_or_unfitting_checkpoint_is_refused_one_of_another_torch_resumes(capsys):
    whole = run("--epochs", 4, log_dir="whole")
    run("--epochs", 2)
    path, good = Path("run/checkpoint.pt"), torch.load("run/checkpoint.pt", weights_only=True)
    for content, reason in (
            (b"hello\n", "damaged"), (path.read_bytes()[:-1], "damaged"), ({}, "damaged"),
            (good | {"object": range(1)}, "damaged"),  # to load an object would run its code
            (good | {"model": {}}, "the network in model.py is not the one that was saved"),
            (good | {"settings": dict.fromkeys(good["settings"], 5)}, "--init was 5 and is default"
             ", --augment[^-]*--dropout[^-]*--hidden[^-]*--batch-size[^-]*--lr[^-]*--seed")):
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        with pytest.raises(SystemExit, match=f"^train.py: error: {path}.*{reason}[^\n]*$"):
            run("--epochs", 4, "--resume")
    good["scheduler"].pop("default_min_lr", None)  # as in torch 2.4, which has "verbose" instead
    torch.save(good | {"scheduler": good["scheduler"] | {"verbose": False}}, path)
    assert run("--epochs", 4, "--resume") == whole
    for epochs in 1, 4:  # it is finished, which needs no data
        assert run("--epochs", epochs, "--resume", "--data-dir", "gone") == whole
        assert "run: finished already, 4 epochs\n" in capsys.readouterr().out


@pytest.mark.parametrize("flag", [
    "--dropout=1", "--dropout=nan", "--dropout=-0.1", "--drop=0.5", "--epochs=0", "--lr=inf",
    "--lr=0", "--hidden=0", "--batch-size=0", "--seed=-1", "--seed=100000", "--threads=0",
    "--init=he", "--device=meta", "--device=x", "--device=hpu", "--log-dir=saved",
    "--log-dir=logged", f"--log-dir={__file__}", f"--data-dir={__file__}"])
def test_bad_flags_get_one_line_and_code_2_before_any_work(flag, capsys, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("began to work"))
    for path in "saved/checkpoint.pt", "logged/events.out.1":
        Path(path).mkdir(parents=True)
    with pytest.raises(SystemExit, match="^2$"):
        train.main(["--log-dir=new", flag])
    (line, _), (name, value) = capsys.readouterr().err.split("\n"), flag.split("=")
    assert ": error: " in line and (value if "dir" in name else name) in line
    assert (__file__ in flag) == ("is a file and must be a directory" in line)


@pytest.mark.parametrize("losses", [(torch.nan, 1), (1, torch.nan), (1e9, 1), (1, 1e9)])
def test_a_loss_that_explodes_stops_the_run_with_the_remedy(monkeypatch, losses):
    monkeypatch.setattr(train, "train_epoch", lambda *_: losses[0])
    monkeypatch.setattr(train, "evaluate", lambda *_: (losses[1], 0.5))
    with pytest.raises(SystemExit, match="^train.py: error: the loss of epoch 1 .* --lr lower"):
        run()
    assert "loss/train" not in logged("run") and not Path("run/checkpoint.pt").exists()


def test_a_full_disk_and_ctrl_c_are_one_line_with_codes_1_and_130():
    # Full at 200 kB, in the first checkpoint, which has 320 kB, or at 600 kB, in later events.
    full = [start("--epochs", 100, "--batch-size", 5000, f"--log-dir=läufe {limit}", limit=limit)
            for limit in (200_000, 600_000)]
    interrupted = start("--log-dir=run", "--batch-size", 1)
    assert interrupted.stdout.readline().endswith("run: epochs 1 to 20\n")  # before it ends
    interrupted.send_signal(signal.SIGINT)
    for process, code, end in ((interrupted, 130, "the same command with --resume goes on\n"),
            (full[0], 1, "läufe 200000: File too large\n"), (full[1], 1, "File too large\n")):
        errors = process.communicate()[1]
        assert process.returncode == code and errors.count("\n") == 1 and errors.endswith(end)
    assert [str(path) for path in Path().glob("*/check*")] == ["läufe 600000/checkpoint.pt"]
    assert len(checkpoint("läufe 600000")["history"]) > 1


def test_the_defaults_and_the_directory_named_after_what_differs_from_them(home):
    args = train.parse_args([])
    assert args.settings == {"init": "default", "augment": False, "dropout": 0.0, "hidden": 100,
                             "epochs": 20, "batch_size": 128, "lr": 0.2, "seed": 0}
    assert [args.threads, args.device, args.data_dir] == [1, "cpu", ROOT / "datasets"]
    with pytest.raises(SystemExit, match="^0$"):
        train.parse_args(["--help"])
    named = {"zero-lr0.1234567-seed3": ["--seed=3", "--lr=0.1234567", "--epochs=9", "--init=zero"],
             "vanilla-dropout0.55-batch_size5": ["--batch-size=5", "--dropout=0.55"]}
    for name, flags in (EXPERIMENTS | named).items():
        assert train.parse_args(flags).log_dir == Path("runs", name)
    assert train.parse_args(["--log-dir=~/x"]).log_dir == home / "x"
