import json
import pickle
import statistics

import pytest
import torch
from torch import nn

import evaluate
from conftest import checkpoint
from data import batches
from download import Failure
from model import MLP

KEYS = ["run", "init", "augment", "dropout", "hidden", "epochs", "seeds", "train_loss",
        "train_eval_loss", "test_loss", "test_accuracy", "mirrored_test_accuracy"]


class Harmful:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_evaluate_returns_the_mean_loss_and_the_share_of_right_answers():
    torch.manual_seed(0)
    model = MLP(dropout=0.5)
    images, labels = torch.randint(256, (1001, 28, 28), dtype=torch.uint8), torch.arange(1001) % 10
    loss, accuracy = evaluate.evaluate(model.train(), images, labels)
    model.eval()
    (batch, _), = batches(images, labels, 1001)
    assert loss == pytest.approx(nn.functional.cross_entropy(model(batch), labels).item(), rel=1e-6)
    assert accuracy == sum(model(batch).argmax(1) == labels).item() / 1001


def test_mirroring_flips_a_fixed_half_of_the_images_left_to_right():
    images = torch.randint(256, (1000, 28, 28), dtype=torch.uint8)
    before = images.clone()
    mirrored = evaluate.mirror_half(images)
    kept = (mirrored == images).flatten(1).all(1)
    flipped = (mirrored == images.flip(2)).flatten(1).all(1)
    assert kept.sum() == flipped.sum() == 500 and (kept ^ flipped).all()
    torch.rand(1)  # whatever else is drawn, it is always the same half
    assert torch.equal(mirrored, evaluate.mirror_half(images)) and torch.equal(images, before)


def test_the_table_measures_afresh(run, tmp_path, capsys):
    history = run("--augment", "--dropout", 0.3, "--epochs", 2)
    (row,) = evaluate.main([str(tmp_path / "run")])
    assert list(row) == KEYS
    assert [row[key] for key in KEYS[:7]] == ["run", "default", True, 0.3, 100, 2, 1]
    last = history[-1]
    assert row["train_loss"] == {"mean": last["loss/train"], "std": 0}
    assert row["test_loss"]["mean"] == pytest.approx(last["loss/test"], rel=1e-5)
    assert row["test_accuracy"]["mean"] == last["accuracy/test"]
    assert row["train_eval_loss"]["mean"] < row["train_loss"]["mean"]
    table = capsys.readouterr().out.splitlines()[-3:]
    assert len({line.count("|") for line in table}) == 1
    assert f"| {row['test_loss']['mean']:.4f} | {row['test_accuracy']['mean']:.4f} |" in table[2]


def test_runs_that_differ_only_in_the_seed_become_one_row(run, tmp_path, capsys):
    losses = [run("--epochs", 1, "--seed", seed, log_dir=tmp_path / f"runs/seed{seed}/vanilla")[0]["loss/train"]
              for seed in range(3)]
    run("--epochs", 1, "--seed", 2, log_dir=tmp_path / "runs/again")  # counts once
    for seed in 0, 1:  # as the default directories are named
        run("--epochs", 1, "--init", "kaiming", "--seed", seed, log_dir=tmp_path / f"runs/k-seed{seed}")
    run("--epochs", 1, "--lr", 0.1, log_dir=tmp_path / "runs/seed0/other")
    run("--epochs", 1, "--init", "xavier", log_dir=tmp_path / "runs/seed0/xavier")
    rows = evaluate.main([str(tmp_path / "runs")])
    assert [(row["run"], row["seeds"]) for row in rows] == [
        ("vanilla", 3), ("other", 1), ("xavier", 1), ("kaiming-epochs1", 2)]
    assert rows[0]["train_loss"] == pytest.approx(
        {"mean": statistics.mean(losses), "std": statistics.stdev(losses)})
    assert f"{statistics.mean(losses):.4f} ± {statistics.stdev(losses):.4f}" in capsys.readouterr().out


def test_json_prints_the_rows(run, tmp_path, capsys):
    run("--epochs", 1)
    capsys.readouterr()
    rows = evaluate.main(["--json", str(tmp_path)])
    assert json.loads(capsys.readouterr().out) == rows


def broken_checkpoints(good: dict, path):
    """Return {name: content} of files that are no checkpoint of ours; path is for the harmful one."""
    def without(key, inner=None):
        copy = {k: dict(v) if isinstance(v, dict) else v for k, v in good.items()}
        del (copy[inner] if inner else copy)[key]
        return copy

    wrong_shape = good | {"model": good["model"] | {"hidden.weight": torch.zeros(50, 784)}}
    return {
        "empty": b"", "text": b"hello\n", "harmful": pickle.dumps(Harmful(path)), "list": [1, 2],
        "harmful tensor file": good | {"history": Harmful(path)}, "foreign": {"state_dict": {}},
        "wrong shape": wrong_shape, "other hidden": good | {"flags": good["flags"] | {"hidden": 50}},
        "short history": good | {"history": []}, "unknown init": good | {"flags": good["flags"] | {"init": "x"}},
        **{f"without {key}": without(key) for key in good},
        "without a weight": without("output.bias", "model"), "without lr": without("lr", "flags"),
    }


def test_broken_and_harmful_checkpoints_are_one_line_and_run_nothing(run, tmp_path):
    run("--epochs", 1)
    path = tmp_path / "run" / "checkpoint.pt"
    good, whole = checkpoint(tmp_path / "run"), path.read_bytes()
    contents = broken_checkpoints(good, tmp_path / "was here")
    contents |= {f"cut at {n}": whole[:n] for n in (1, 1000, len(whole) // 2, len(whole) - 1)}
    for name, content in contents.items():
        path.unlink()
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        for call in (lambda: evaluate.main([str(tmp_path)]), lambda: run("--epochs", 2, "--resume")):
            with pytest.raises(Failure) as failure:
                call()
            assert str(path) in str(failure.value) and "\n" not in str(failure.value), name
        assert not (tmp_path / "was here").exists(), name
    path.unlink()
    path.mkdir()
    with pytest.raises(Failure, match="checkpoint.pt is no intact"):
        evaluate.main([str(tmp_path)])


def test_a_damaged_optimizer_or_scheduler_state_is_noticed_on_resume(run, tmp_path):
    run("--epochs", 1)
    path = tmp_path / "run" / "checkpoint.pt"
    good = checkpoint(tmp_path / "run")
    for part, key in ("scheduler", "best"), ("optimizer", "param_groups"):
        torch.save(good | {part: {k: v for k, v in good[part].items() if k != key}}, path)
        with pytest.raises(Failure, match="no intact"):
            run("--epochs", 2, "--resume")


def test_a_broken_run_among_good_ones_is_named_and_the_others_are_printed(run, tmp_path, capsys):
    run("--epochs", 1, log_dir=tmp_path / "runs" / "good")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "checkpoint.pt").write_bytes(b"PK")
    capsys.readouterr()
    with pytest.raises(Failure, match="bad/checkpoint.pt is no intact"):
        evaluate.main([str(tmp_path / "runs")])
    assert "| good |" in capsys.readouterr().out


def test_a_directory_without_runs_is_named(tmp_path):
    with pytest.raises(Failure, match="nothing holds no checkpoint"):
        evaluate.main([str(tmp_path / "nothing")])
