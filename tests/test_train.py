import importlib
import os
import re
import resource
import signal
import sys
import threading
import time
from unittest.mock import DEFAULT, Mock

import numpy
import pytest
import torch
from torch import nn

import train
from conftest import EXPERIMENTS, ROOT, checkpoint, noise, read_events, scalars
from model import MLP

SPLITS = ["train_clean", "val", "test", "mirrored"]
CRITERION = nn.CrossEntropyLoss()


def same(one, other) -> bool:
    """Return whether two checkpoints, or parts of them, are equal bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def examples(n: int, size: int) -> list:
    """Return batches of n images of noise, the last one short."""
    return list(zip((noise(n) / 255).split(size), (torch.arange(n) % 10).split(size)))


def by_hand(model: MLP, images, labels) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy, computed in float64 numpy."""
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    x = numpy.maximum(images.double().flatten(1).numpy() @ w1.T + b1, 0) @ w2.T + b2
    losses = numpy.log(numpy.exp(x).sum(1)) - x[numpy.arange(len(x)), labels]
    return losses.mean(), (x.argmax(1) == labels.numpy()).mean()


def test_train_epoch_takes_the_steps_of_plain_sgd():
    torch.manual_seed(0)
    model, batches = MLP(), examples(70, 32)
    weights = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    model.hidden.weight.grad = torch.ones(100, 784)  # left over from something else
    train.train_epoch(model, CRITERION, torch.optim.SGD(model.parameters(), lr=0.5), batches)
    for images, labels in batches:
        logits = torch.func.functional_call(MLP(), weights, (images,))
        loss = (logits.logsumexp(1) - logits[range(len(labels)), labels]).mean()
        for weight, gradient in zip(weights.values(), torch.autograd.grad(loss, weights.values())):
            weight.data -= 0.5 * gradient
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name])


def test_losses_and_accuracy_are_means_over_the_examples_and_dropout_is_on_in_training_only():
    torch.manual_seed(0)
    model, batches, modes = MLP(dropout=0.5), examples(101, 50), []
    batches[-1][0].fill_(1)  # one image alone: a mean of batch means would overrate it
    loss, accuracy = by_hand(model, *map(torch.cat, zip(*batches)))
    model.register_forward_hook(lambda *_: modes.append((model.training, torch.is_grad_enabled())))
    for _ in range(2):
        measured = train.evaluate(model, CRITERION, batches)
        assert measured == pytest.approx((loss, accuracy), rel=1e-5)
        model.dropout.p = 0.0  # to know what is expected
        still = torch.optim.SGD(model.parameters(), lr=0.0)
        assert train.train_epoch(model, CRITERION, still, batches) == pytest.approx(loss, rel=1e-5)
        model.dropout.p = 0.5
    assert modes == ([(False, False)] * 3 + [(True, True)] * 3) * 2


def test_zero_init_trains_only_the_output_bias(run, tmp_path):
    run("--init", "zero", "--epochs", 5)
    logged = scalars(tmp_path / "run")
    for name, weight in checkpoint(tmp_path / "run")["model"].items():
        moved = name == "output.bias"
        assert bool(weight.any()) == moved
        assert all((norm > 0) == moved for _, norm in logged[f"gradient_norm/{name}"])


def test_the_network_learns_and_its_final_weights_are_measured_on_all_splits(run, tmp_path, data_dir):
    history = run("--epochs", 3, "--batch-size", 10, "--augment", "--dropout", 0.2, "--hidden", 50)
    tags = ["loss/train", *(f"{kind}/{split}" for split in SPLITS for kind in ("loss", "accuracy"))]
    assert [list(metrics) for metrics in history] == [[*tags, "learning_rate"]] * 3
    assert history[0]["loss/train"] > history[2]["loss/train"] and history[2]["accuracy/test"] > 0.9
    model = MLP(50)
    model.load_state_dict(checkpoint(tmp_path / "run")["model"])
    for split, (images, labels) in train.load_splits(data_dir).items():
        if split != "train":
            measured = history[2][f"loss/{split}"], history[2][f"accuracy/{split}"]
            assert measured == pytest.approx(by_hand(model, images / 255, labels), rel=1e-4)


def test_the_scheduler_looks_at_the_validation_loss_alone(run, monkeypatch):
    losses = [[epoch + 1 if split == "val" and epoch < 2 else 2 if split == "val" else 9 - epoch
               for split in SPLITS] for epoch in range(6)]  # val: 1 2 2 2 2 2, the others: 9 8 7 ...
    monkeypatch.setattr(train, "evaluate", Mock(side_effect=[(loss, 0.5) for loss in sum(losses, [])]))
    rates = [metrics["learning_rate"] for metrics in run("--epochs", 6)]
    assert rates == pytest.approx([0.2] * 4 + [0.02] * 2)


def test_shuffled_test_labels_change_no_weight_and_one_seed_gives_the_same_bits(run, tmp_path, monkeypatch):
    flags = "--augment", "--dropout", 0.5, "--lr", 2, "--epochs", 8  # a rate that has to fall
    for name, seed in ("run", 0), ("again", 0), ("other", 1):
        run(*flags, "--seed", seed, log_dir=tmp_path / name)
    load_splits = train.load_splits

    def shuffled(*args):
        return {split: (images, labels if split in ("train", "val") else labels.flip(0))
                for split, (images, labels) in load_splits(*args).items()}

    monkeypatch.setattr(train, "load_splits", shuffled)
    run(*flags, log_dir=tmp_path / "shuffled")
    first, again, other, shuffled = (
        checkpoint(tmp_path / name) for name in ("run", "again", "other", "shuffled"))
    assert same(first, again) and not same(first["model"], other["model"])
    assert first["history"][-1]["loss/test"] != shuffled["history"][-1]["loss/test"]
    assert first["history"][-1]["learning_rate"] < 2
    assert all(same(first[part], shuffled[part]) for part in ("model", "optimizer", "scheduler"))


def test_runs_of_a_seed_see_the_same_order_and_two_seeds_share_no_epoch(run, tmp_path, monkeypatch):
    orders = []
    monkeypatch.setattr(train, "train_epoch", lambda *args: orders.append(
        tuple(torch.cat([labels for _, labels in args[-1]]).tolist())) or 1.0)
    monkeypatch.setattr(train, "evaluate", lambda *_: (1.0, 0.5))
    monkeypatch.setattr(train, "log_epoch", lambda *_: None)
    runs = [*EXPERIMENTS.values(), *(["--seed", seed] for seed in (1, 2, 3))]
    for i, flags in enumerate(runs):
        run(*flags, "--epochs", 3, log_dir=tmp_path / str(i))
    assert orders[:15] == orders[:3] * 5 and len(set(orders)) == 4 * 3


def test_a_run_that_dies_at_any_step_is_resumed_to_the_same_bits(run, tmp_path, monkeypatch):
    flags = "--augment", "--dropout", 0.5, "--epochs", 6, "--batch-size", 300, "--lr", 1
    run(*flags)
    for module, name, call in ((train, "train_epoch", 1), (train, "log_epoch", 3), (os, "replace", 1),
                               (train, "save_checkpoint", 2), (train, "log_end", 1)):
        dying = Mock(wraps=getattr(module, name), side_effect=[DEFAULT] * (call - 1) + [KeyboardInterrupt])
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, dying)
            run(*flags, "--resume", log_dir=tmp_path / "died")
    run(*flags, "--resume", log_dir=tmp_path / "died")
    one, other = tmp_path / "run", tmp_path / "died"
    assert same(checkpoint(one), checkpoint(other)) and scalars(one) == scalars(other)
    for tag in "inputs", "filters", "mistakes":
        images = [[event.encoded_image_string for event in read_events(run_dir).Images(tag)]
                  for run_dir in (one, other)]
        assert images[0] == images[1]
    names = [path.name.split(".")[0] for path in other.iterdir()]
    assert sorted(names) == ["checkpoint"] + ["events"] * 6


def test_a_killed_run_goes_on_as_if_nothing_had_been(run, start, tmp_path):
    flags = "--augment", "--dropout", "0.5", "--epochs", "25", "--batch-size", "10"
    process = start(*flags, "--log-dir", tmp_path / "run")
    run(*flags, log_dir=tmp_path / "whole")
    assert any(line.startswith("    2 ") for line in process.stdout)
    process.kill()
    assert process.wait() == -signal.SIGKILL and len(checkpoint(tmp_path / "run")["history"]) < 25
    time.sleep(1)  # TensorBoard reads event files in the order of the seconds in their names
    run(*flags, "--resume")
    assert same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run"))
    assert scalars(tmp_path / "whole") == scalars(tmp_path / "run")


def test_what_the_checkpoint_holds_is_in_tensorboard_already(run, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(train, "save_checkpoint", lambda *_: logged.append(
        len(scalars(tmp_path / "run")["loss/train"])))
    run("--epochs", 2)
    assert logged == [1, 2]


def test_more_epochs_train_on_whatever_keys_another_pytorch_gave_the_scheduler(
        run, tmp_path, data_dir, monkeypatch, capsys):
    run("--epochs", 4, log_dir=tmp_path / "whole")
    monkeypatch.chdir(tmp_path)
    train.main(["--epochs", "2", f"--data-dir={data_dir}"])
    path = train.Path("runs/vanilla/checkpoint.pt")
    content = checkpoint(path.parent)
    content["scheduler"].pop("default_min_lr", None)  # as in 2.4, which has "verbose" instead
    torch.save(content | {"scheduler": content["scheduler"] | {"verbose": False}}, path)
    history = train.main(["--epochs", "4", "--resume", f"--data-dir={data_dir}"])
    assert same(checkpoint("whole")["model"], checkpoint(path.parent)["model"])
    assert len(history) == 4 == checkpoint(path.parent)["settings"]["epochs"]
    before = sorted(path.parent.iterdir())
    assert train.main(["--epochs", "3", "--resume", "--data-dir", "gone"]) == history  # needs none
    assert before == sorted(path.parent.iterdir())
    assert "runs/vanilla: finished already, 4 epochs" in capsys.readouterr().out


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):  # unpickling writes a file
        return open, (str(self.path), "w")


def test_a_checkpoint_that_cannot_be_resumed_gets_one_line_and_stays(run, tmp_path):
    run("--epochs", 1)
    path = tmp_path / "run" / "checkpoint.pt"
    whole, good = path.read_bytes(), checkpoint(tmp_path / "run")
    damaged, flags = "damaged", good["settings"] | {"lr": 0.1, "batch_size": 5}
    network = good["model"] | {"hidden.weight": torch.zeros(50, 784)}
    for content, reason in (
            (b"", damaged), (b"hello\n", damaged), (whole[:-1], damaged), ([1, 2], damaged),
            ({"state_dict": {}}, damaged), (good | {"history": Harmful(tmp_path / "x")}, damaged),
            (good | {"model": network}, "the network in model.py is not the one that was saved"),
            (good | {"settings": flags}, "--batch-size was 5 and is 128, --lr was 0.1 and is 0.2")):
        path.unlink()
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        before = path.read_bytes()
        with pytest.raises(SystemExit, match=f"^train.py: error: {path}.*{reason}.*$") as exit_info:
            run("--epochs", 2, "--resume")
        assert "\n" not in exit_info.value.code and "delete" not in exit_info.value.code
        assert path.read_bytes() == before and not (tmp_path / "x").exists()


@pytest.mark.parametrize("flags", [
    "--dropout 1", "--dropout nan", "--dropout -0.1", "--epochs 0", "--epochs 1.5", "--lr inf",
    "--lr 0", "--lr nan", "--hidden 0", "--batch-size 0", "--seed -1", "--seed 100000", "--threads 0",
    "--init he", "--device meta", "--device nonsense", "--data-dir {}/file", "--log-dir {}/file",
    "--log-dir {}/events", "--log-dir {}/checkpoint", "--drop 0.5"])
def test_bad_input_gets_one_line_and_code_2_before_any_work(flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("began to work"))
    for name in "file", "events/events.out.tfevents.1", "checkpoint/checkpoint.pt":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit, match="^2$"):
        train.main(["--log-dir", str(tmp_path / "new"), *flags.format(tmp_path).split()])
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and ": error: " in errors
    assert flags.split("/" if "/" in flags else " ")[-1 if "/" in flags else 0] in errors
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("lr", [1e8, 1e6])  # nan, and a finite loss of about 1e23
def test_a_loss_that_explodes_stops_the_run_with_the_remedy(run, tmp_path, lr):
    with pytest.raises(SystemExit, match="^train.py: error: the loss of epoch 1 .* --lr lower"):
        run("--lr", lr, "--batch-size", 20)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    assert "loss/train" not in scalars(tmp_path / "run")


@pytest.mark.parametrize("limit", [20_000, 200_000, 600_000])
def test_a_full_disk_gets_one_line_and_leaves_the_last_checkpoint(run, tmp_path, limit, monkeypatch):
    # A limit on the size of files fails as a full disk does, in write() itself: at 20 kB in the
    # first events, at 200 kB in the checkpoint, which has 320 kB, and at 600 kB in later events.
    monkeypatch.setattr(threading, "excepthook", lambda failure: None)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    try:
        with pytest.raises(SystemExit, match=f"^train.py: error: {tmp_path}/run: File too large$"):
            run("--epochs", 100, "--batch-size", 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = [path.name for path in (tmp_path / "run").glob("checkpoint*")]
    assert left == (["checkpoint.pt"] if limit == 600_000 else [])
    assert not left or len(checkpoint(tmp_path / "run")["history"]) > 1


def test_ctrl_c_and_a_full_disk_are_one_line_each_in_a_real_process(start, tmp_path):
    full = start("--log-dir", tmp_path / "läufe 1", preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (9999, 9999)))
    process = start("--log-dir", tmp_path / "run", preexec_fn=lambda: signal.signal(
        signal.SIGINT, signal.default_int_handler))
    assert process.stdout.readline().endswith("run: epochs 1 to 20\n")
    process.send_signal(signal.SIGINT)
    for ended, code, words in (process, 130, "--resume"), (full, 1, "läufe 1: File too large"):
        errors = ended.communicate()[1]
        assert ended.returncode == code and errors.count("\n") == 1 and words in errors


def test_nothing_that_only_unix_has_is_needed(run, data_dir, tmp_path, monkeypatch):
    ours = "data", "download", "init", "log", "model", "results", "train"
    files = sys.modules["download"].FILES
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in "fcntl", "resource", "pwd", "grp", "termios", "syslog":
        monkeypatch.setitem(sys.modules, name, None)
    for module, names in {os: ["fork", "getuid", "geteuid", "getgid", "uname", "setsid", "killpg"],
                          signal: ["SIGPIPE", "SIGKILL", "SIGHUP", "SIGUSR1", "alarm"]}.items():
        for name in names:
            monkeypatch.delattr(module, name)
    fresh = {name: importlib.import_module(name) for name in ours}
    fresh["download"].FILES = files
    flags = [f"--data-dir={data_dir}", "--epochs=2", f"--log-dir={tmp_path}/run", "--augment"]
    assert len(fresh["train"].main(flags)) == 2 and fresh["results"].main([str(tmp_path)])


def test_the_console_shows_a_table_of_80_columns_and_threads_are_counted(run, tmp_path, capsys):
    history = run("--epochs", 2, "--threads", 2, log_dir=tmp_path / "my runs" / "one")
    assert torch.get_num_threads() == 2
    title, above, header, *lines, last, hint = capsys.readouterr().out.splitlines()
    assert title == f"{tmp_path}/my runs/one: epochs 1 to 2"
    assert above.split() == ["loss:", "accuracy:", "learning"]
    assert re.sub(" +", " ", header) == "epoch train val test val test mirrored rate seconds"
    tags = "loss/train", "loss/val", "loss/test", "accuracy/val", "accuracy/test", "accuracy/mirrored"
    for epoch, (metrics, line) in enumerate(zip(history, lines, strict=True), start=1):
        *numbers, seconds = line.split()
        assert numbers == [str(epoch), *(f"{metrics[tag]:.4f}" for tag in tags), "0.2"]
        assert 0 < float(seconds) < 60 and max(map(len, (above, header, line, last))) <= 80
        ends = [[match.end() for match in re.finditer(r"\S+", text)] for text in (header, line)]
        assert ends[0] == ends[1]  # the numbers stand below their titles
    numbers = (metrics[tag] for tag in ("loss/train", "accuracy/test", "accuracy/mirrored"))
    assert last == "train loss {:.4f}, test accuracy {:.4f}, mirrored {:.4f}".format(*numbers)
    assert hint == f'see it: tensorboard --logdir "{tmp_path}/my runs"'
    run("--epochs", 1)
    assert torch.get_num_threads() == 1


def test_the_default_directory_is_named_after_what_differs_from_the_defaults(monkeypatch):
    def name(*flags):
        return str(train.parse_args([*flags, "--resume"]).log_dir)

    assert [name(*flags) for flags in EXPERIMENTS.values()] == [f"runs/{run}" for run in EXPERIMENTS]
    assert name("--lr=0.05", "--epochs=9", "--init=zero", "--seed=3") == "runs/zero-lr0.05-seed3"
    others = ["--lr=0.1234567", "--lr=0.1234568", "--dropout=0.1", "--dropout=0.5", "--dropout=0.55",
              "--hidden=10", "--batch-size=10", "--seed=10", "--augment", "--init=kaiming"]
    assert len({name(flag) for flag in others}) == len(others)
    monkeypatch.setenv("HOME", "/home/me")
    assert name("--log-dir=~/x") == "/home/me/x"
    assert train.parse_args(["--data-dir", "~/x", "--resume"]).data_dir == train.Path("/home/me/x")
    assert train.parse_args(["--resume"]).data_dir == ROOT / "datasets"
