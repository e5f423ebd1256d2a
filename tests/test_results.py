"""What results.py promises: a table of the finished runs, and a line about each of the others."""

import os
import runpy
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

import results
import train
from conftest import EXPERIMENTS, ROOT, UNIX_FUNCTIONS, UNIX_MODULES, Bomb

COLUMNS = ["loss/train", "loss/train_clean", "loss/test", "loss/gap", "accuracy/test",
           "accuracy/mirrored"]


def save_run(directory, *flags, number: float = 0.5, epochs: int = 2, asked: int = 0,
             **more_settings) -> Path:
    """Save a checkpoint as train.py does after so many epochs; return its path.

    Its last numbers are number + 0.01 for loss/train, number + 0.02 for the next column, ...; the
    ones before are by turns much higher and much lower.
    asked: the --epochs of the run, 0 if they have all been trained.
    """
    args = train.parse_args([f"--epochs={asked or epochs}", "--log-dir=none", *flags])
    last = {column: number + i / 100 for i, column in enumerate(COLUMNS, start=1)}
    metrics = [*COLUMNS, "loss/val"]
    history = [dict.fromkeys(metrics, 99.0 * (-1) ** i) for i in range(epochs - 1)]
    history.append(last | {"loss/val": 7.0})
    path = Path(directory, "checkpoint.pt")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"settings": args.settings | more_settings, "history": history}, path)
    return path


@pytest.fixture
def table(capsys):
    """A function that returns the table of a folder, as printed: a dict {title: cell} for a row."""

    def get_table(folder="runs") -> list[dict[str, str]]:
        results.main([str(folder)])
        lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
        return [dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]]

    return get_table


def left_out() -> list[str]:
    """Return the lines about runs that are left out, with which results.py exits."""
    with pytest.raises(SystemExit) as end:
        results.main(["runs"])
    return end.value.code.splitlines()  # a text: Python prints it and exits with code 1


def column(rows: list[dict], title: str) -> list[str]:
    """Return a column of the table."""
    return [row[title] for row in rows]


# The table


def test_the_table_of_results_has_titles_in_markdown(capsys):
    save_run("runs/vanilla")
    results.main([])
    titles, rule, *_ = capsys.readouterr().out.splitlines()
    assert titles == f"| run | seeds | epochs | {' | '.join(COLUMNS)} |"
    assert rule == "|---" * titles.count(" | ") + "|---|"


def test_a_real_run_shows_its_last_numbers(plain_run, table):
    (row,) = table(plain_run.directory.parent)
    last = plain_run.history[-1]
    expected = {title: f"{last[title]:.4f}" for title in COLUMNS}
    assert row == {"run": "plain", "seeds": "1", "epochs": "4"} | expected


@pytest.mark.parametrize("title", COLUMNS)
def test_a_column_shows_the_number_after_the_last_epoch(title, table):
    save_run("runs/vanilla", number=0.3, epochs=3)
    assert column(table(), title) == [f"{0.31 + COLUMNS.index(title) / 100:.4f}"]


def test_rows_come_in_the_order_of_the_study(table):
    for name, flags in sorted(EXPERIMENTS.items()):  # by the alphabet, zero comes last
        save_run(f"runs/{name}", *flags)
    assert column(table(), "run") == list(EXPERIMENTS)


def test_depth_and_hidden_order_runs_of_a_mode(table):
    for name, flags in {"depth20": ["--depth=20"], "depth3": ["--depth=3"],
                        "hidden200": ["--hidden=200"], "plain": [], "a zero": ["--init=zero"],
                        }.items():
        save_run(f"runs/{name}", *flags)
    assert column(table(), "run") == ["plain", "hidden200", "depth3", "depth20", "a zero"]


def test_dropout_alone_precedes_augmentation(table):
    save_run("runs/a", "--augment")
    save_run("runs/b", "--dropout=0.5")
    assert column(table(), "run") == ["b", "a"]


def test_epochs_are_the_epochs_trained(table):
    save_run("runs/a", epochs=3)
    assert column(table(), "epochs") == ["3"]


def test_main_returns_the_rows():
    save_run("runs/vanilla", number=0.5)
    (row,) = results.main([])
    assert (row["name"], row["epochs"]) == ("vanilla", 2)


# Seeds


def test_runs_of_several_seeds_share_a_row(table):
    for seed in 0, 1, 20:
        save_run(f"runs/vanilla-seed{seed}", f"--seed={seed}")
    rows = table()
    assert column(rows, "run") == ["vanilla"]
    assert column(rows, "seeds") == ["3"]


def test_runs_of_several_folders_share_a_row(table):
    for seed in 0, 1:
        save_run(f"runs/{seed}/vanilla", f"--seed={seed}")
    assert column(table(), "seeds") == ["2"]


def test_seeds_give_mean_and_sample_standard_deviation(table):
    numbers = [0.1, 0.4, 0.6]
    for seed, number in enumerate(numbers):
        save_run(f"runs/{seed}/vanilla", f"--seed={seed}", number=number - 0.01)
    expected = f"{mean(numbers):.4f} ± {stdev(numbers):.4f}"
    assert column(table(), "loss/train") == [expected]


def test_one_seed_has_no_spread(table):
    save_run("runs/vanilla", number=0.29)
    assert column(table(), "loss/train") == ["0.3000"]


def test_a_second_run_of_a_seed_gets_a_row_with_its_path(table):
    for folder, number in ("first", 0.29), ("second", 0.39), ("third", 0.49):
        save_run(f"runs/{folder}/vanilla", number=number)
    rows = table()
    assert column(rows, "run") == ["second/vanilla", "third/vanilla", "vanilla"]
    assert column(rows, "loss/train") == ["0.4000", "0.5000", "0.3000"]


def test_another_seed_joins_the_first_run_not_its_copy(table):
    for folder, seed in ("first", 0), ("second", 0), ("third", 1):
        save_run(f"runs/{folder}/vanilla", f"--seed={seed}")
    seeds = {row["run"]: row["seeds"] for row in table()}
    assert seeds == {"vanilla": "2", "second/vanilla": "1"}


def test_only_a_seed_at_the_end_of_a_name_is_cut_off(table):
    save_run("runs/a-seed7-again")
    save_run("runs/reseed1")
    assert column(table(), "run") == ["a-seed7-again", "reseed1"]


def test_runs_with_settings_in_another_order_share_a_row(table):
    """As when train.py had its flags in another order."""
    save_run("runs/0/vanilla")
    path = save_run("runs/1/vanilla", "--seed=1")
    content = torch.load(path, weights_only=True)
    content["settings"] = dict(reversed(content["settings"].items()))
    torch.save(content, path)
    assert column(table(), "seeds") == ["2"]


# Runs of the same name


@pytest.mark.parametrize("flag, words", [
    ("--lr=0.5", ["lr 0.2", "lr 0.5"]), ("--batch-size=64", ["batch_size 128", "batch_size 64"]),
    ("--patience=9", ["patience 2", "patience 9"])])
def test_runs_of_a_name_are_told_apart_by_a_setting(flag, words, table):
    save_run("runs/a/vanilla")
    save_run("runs/b/vanilla", flag, "--seed=1")
    names = column(table(), "run")
    assert sorted(names) == [f"vanilla, {word}" for word in sorted(words)]


def test_runs_of_a_name_are_told_apart_by_their_epochs(table):
    save_run("runs/a/vanilla", epochs=2)
    save_run("runs/b/vanilla", "--seed=1", epochs=3)
    rows = table()
    assert column(rows, "run") == ["vanilla", "vanilla"]
    assert column(rows, "epochs") == ["2", "3"]


def test_a_unique_name_is_shown_without_settings(table):
    save_run("runs/vanilla")
    save_run("runs/vanilla-lr0.5", "--lr=0.5")
    assert column(table(), "run") == ["vanilla", "vanilla-lr0.5"]


def test_a_flag_that_was_added_counts_as_a_setting(table):
    save_run("runs/a/vanilla")
    save_run("runs/b/vanilla", "--seed=1", label_smoothing=0.1)
    assert sorted(column(table(), "run")) == ["vanilla", "vanilla, label_smoothing 0.1"]


def test_runs_of_a_mode_that_is_gone_come_last(table):
    save_run("runs/a", init="gone")
    save_run("runs/b", "--init=kaiming")
    assert column(table(), "run") == ["b", "a"]


# Where it looks


def test_the_default_folder_of_results_py_is_runs():
    save_run("runs/vanilla")
    save_run("elsewhere/zero", "--init=zero")
    assert [row["name"] for row in results.main([])] == ["vanilla"]


def test_runs_are_found_however_deep(table):
    save_run("runs/a/b/c/vanilla")
    assert column(table(), "run") == ["vanilla"]


def test_a_tilde_in_the_folder_is_the_home_directory(home, table):
    save_run(home / "my runs/vanilla")
    assert column(table("~/my runs"), "run") == ["vanilla"]


def test_brackets_in_a_name_are_no_pattern(table):
    save_run("my [runs]/vanilla")
    assert column(table("my [runs]"), "run") == ["vanilla"]


def test_a_run_behind_links_counts_once(table):
    save_run("elsewhere/vanilla")
    Path("runs").mkdir()
    for link in "one", "two":
        Path("runs", link).symlink_to("../elsewhere")
    rows = table()
    assert column(rows, "run") == ["vanilla"]
    assert column(rows, "seeds") == ["1"]


def test_a_folder_without_runs_is_said_to_have_none():
    assert left_out() == ["results.py: error: there is no run in runs; train.py makes one"]


def test_an_older_run_may_lack_a_flag_of_the_study(table):
    path = save_run("runs/vanilla")
    content = torch.load(path, weights_only=True)
    del content["settings"]["depth"]
    torch.save(content, path)
    assert column(table(), "run") == ["vanilla"]


# What is left out


def test_an_unfinished_run_is_left_out():
    save_run("runs/short", epochs=1, asked=2)
    assert left_out() == ["results.py: error: runs/short left out: not finished, 1 of 2 epochs"]


def test_an_exploded_run_is_left_out():
    Path("runs/exploded").mkdir(parents=True)
    Path("runs/exploded/events.out.tfevents.1").touch()
    assert left_out() == ["results.py: error: runs/exploded left out: no checkpoint: it exploded, "
                          "or ended before its first epoch did"]


def test_finished_runs_are_shown_though_others_are_left_out(capsys):
    save_run("runs/vanilla")
    save_run("runs/short", epochs=1, asked=2)
    with pytest.raises(SystemExit):
        results.main([])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| vanilla"]


def test_all_that_are_left_out_are_named_in_order():
    for name in "c", "a", "b":
        save_run(f"runs/{name}", epochs=1, asked=2)
    names = [line.split()[2] for line in left_out()]
    assert names == ["runs/a", "runs/b", "runs/c"]


@pytest.mark.parametrize("content", [
    {}, [1], {"state_dict": {}}, {"settings": {}, "history": []}, {"settings": 3, "history": [{}]}],
    ids=str)
def test_a_checkpoint_of_another_program_is_left_out(content):
    Path("runs/foreign").mkdir(parents=True)
    torch.save(content, "runs/foreign/checkpoint.pt")
    (line,) = left_out()
    assert line.startswith("results.py: error: runs/foreign left out: ")


def test_a_damaged_checkpoint_is_left_out():
    path = save_run("runs/damaged")
    path.write_bytes(path.read_bytes()[:-1])
    (line,) = left_out()
    assert line.startswith("results.py: error: runs/damaged left out: ")


def test_the_reason_for_leaving_out_a_run_is_short():
    Path("runs/hostile").mkdir(parents=True)
    torch.save(Bomb(), "runs/hostile/checkpoint.pt")  # of which torch has much to say
    (line,) = left_out()
    assert len(line.partition(" of train.py: ")[2]) == 150


def test_a_hostile_checkpoint_runs_no_code():
    path = save_run("runs/hostile")
    torch.save(torch.load(path, weights_only=True) | {"object": Bomb()}, path)
    left_out()
    assert not Path("exploded").exists()


def test_a_hostile_checkpoint_is_left_out():
    path = save_run("runs/hostile")
    torch.save(torch.load(path, weights_only=True) | {"object": Bomb()}, path)
    (line,) = left_out()
    assert line.startswith("results.py: error: runs/hostile left out: ")


def test_a_run_from_another_device_is_read(table, monkeypatch):
    with monkeypatch.context() as patch:
        # writes into the file that its tensors lie on cuda:99
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:99")
        path = save_run("runs/vanilla")
        content = torch.load(path, weights_only=True) | {"model": {"weight": torch.ones(3)}}
        torch.save(content, path)
    assert b"cuda:99" in path.read_bytes(), "the scene lacks a device"
    assert column(table(), "run") == ["vanilla"]


# How it is started


def start_as_program(monkeypatch) -> None:
    """Run results.py as `python results.py` does, but in this process."""
    monkeypatch.setattr(sys, "argv", ["results.py"])
    runpy.run_path(str(ROOT / "results.py"), run_name="__main__")


def test_results_py_prints_the_table(monkeypatch, capsys):
    save_run("runs/vanilla")
    start_as_program(monkeypatch)
    assert "| vanilla | 1 | 2 | 0.5100 |" in capsys.readouterr().out


def test_results_py_needs_no_module_that_only_unix_has(monkeypatch, capsys):
    save_run("runs/vanilla")
    for module in UNIX_MODULES:
        monkeypatch.setitem(sys.modules, module, None)
    for function in UNIX_FUNCTIONS:
        monkeypatch.delattr(os, function)
    start_as_program(monkeypatch)
    assert "| vanilla |" in capsys.readouterr().out
