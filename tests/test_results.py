"""What results.py promises: a table of all finished runs, and differences paired by seed. Plumbing.

Most tests save checkpoints of runs that were never trained, with numbers that are easy to predict.
"""

import contextlib
import io
import math
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

import results
import train
from checkpoint import save_checkpoint
from conftest import EXPERIMENTS, ROOT, Bomb

COLUMNS = ["loss/train", "loss/train_clean", "loss/val", "loss/test", "loss/gap", "accuracy/test",
           "accuracy/mirrored"]


def settings_of(*flags: str) -> dict:
    """Return the settings that train.py saves with a run of 2 epochs, or of the --epochs given."""
    return train.settings_of(train.parse_args(["--epochs=2", "--log-dir=none", *flags]))


def save_run(directory, *flags, number: float = 0.5, epochs: int = 2, settings=None) -> None:
    """Save a checkpoint as after so many epochs, with these settings or those of the flags.

    The first of COLUMNS is number, the next one 2 * number, then 3 * number, ...
    """
    settings = settings or settings_of(*flags)
    metrics = {column: number * i for i, column in enumerate(COLUMNS, start=1)}
    parts = {"model": torch.nn.Linear(1, 1)}
    Path(directory).mkdir(parents=True)
    save_checkpoint(Path(directory, "checkpoint.pt"), parts, settings, [metrics] * epochs)


def save_seeds(name: str, numbers: list[float], first_seed: int = 0, folder="runs") -> None:
    """Save a run for each number, with the seeds 0, 1, 2, ..."""
    for seed, number in enumerate(numbers, start=first_seed):
        save_run(f"{folder}/{name}-seed{seed}", f"--seed={seed}", number=number)


def show(*arguments) -> SimpleNamespace:
    """Run results.py; return its exit code, output, lines of errors, and the rows of its table.

    A row is a dictionary {title of the column: cell}.
    """
    code = 0
    with contextlib.redirect_stdout(io.StringIO()) as output, \
            contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            results.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):  # as Python does it
                print(code, file=sys.stderr)
                code = 1
    lines = output.getvalue().splitlines()
    titles, _, *cells = [line[2:-2].split(" | ") for line in lines if line[:1] == "|"] or [[], []]
    rows = [dict(zip(titles, row)) for row in cells]
    return SimpleNamespace(code=code, output=output.getvalue(), rows=rows,
                           errors=errors.getvalue().splitlines())


def column(title: str, *arguments) -> list[str]:
    """Run results.py, which must succeed, and return a column of its table."""
    shown = show(*arguments)
    assert shown.errors == []
    return [row[title] for row in shown.rows]


# The table


def test_a_run_shows_the_numbers_of_its_last_epoch(plain_run):
    last = plain_run.history[-1]
    expected = {title: f"{last[title]:.4f}" for title in COLUMNS}
    (row,) = show(plain_run.directory.parent).rows
    assert row == {"run": "plain", "seeds": "1", "epochs": "4"} | expected


def test_numbers_are_of_the_last_epoch_though_an_earlier_was_better():
    """The epoch with the lowest loss/val would be another selection rule."""
    Path("runs/vanilla").mkdir(parents=True)
    history = [dict.fromkeys(COLUMNS, loss) for loss in (0.2, 0.1, 0.3)]
    save_checkpoint(Path("runs/vanilla/checkpoint.pt"), {}, settings_of("--epochs=3"), history)
    (row,) = show().rows
    assert [row[column] for column in COLUMNS] == ["0.3000"] * len(COLUMNS)


def test_the_table_of_results_is_markdown():
    save_run("runs/vanilla", number=0.1)
    titles, rule, *_ = show().output.splitlines()
    assert titles == f"| run | seeds | epochs | {' | '.join(COLUMNS)} |"
    assert re.fullmatch(r"\|( ?---+ ?\|){10}", rule)


def test_rows_have_the_order_of_the_study():
    flags = {"vanilla": [], "hidden200": ["--hidden=200"], "depth3": ["--depth=3"],
             "depth20": ["--depth=20"], "zero": EXPERIMENTS["zero"],
             "xavier": EXPERIMENTS["xavier"], "xavier-dropout": ["--init=xavier", "--dropout=0.5"],
             "xavier-augment": EXPERIMENTS["xavier-augment"],
             "xavier-augment-dropout": EXPERIMENTS["xavier-augment-dropout"],
             "kaiming": ["--init=kaiming"]}
    for name in flags:
        save_run(f"runs/{name}", *flags[name])
    save_run("runs/a mode that is gone", settings=settings_of() | {"init": "gone"})
    assert column("run") == [*flags, "a mode that is gone"]


# Seeds


def test_runs_that_differ_only_in_seed_share_a_row():
    save_run("runs/vanilla")
    save_run("runs/vanilla-seed20", "--seed=20")
    save_run("runs/1/vanilla", "--seed=1")
    save_run("runs/2/vanilla", settings=dict(reversed(settings_of("--seed=2").items())))
    assert [(row["run"], row["seeds"]) for row in show().rows] == [("vanilla", "4")]


def test_seeds_give_mean_and_sample_standard_deviation():
    # differences from the mean, 0.4: -0.3, 0.1, 0.1, 0.1; sqrt(0.12 / 3) = 0.2
    save_seeds("vanilla", [0.1, 0.5, 0.5, 0.5])
    assert column("loss/train") == ["0.4000 ± 0.2000"]


def test_a_second_run_with_the_same_seed_has_its_own_row():
    save_run("a/vanilla", number=0.1)
    save_run("b/vanilla", number=0.2)
    save_run("c/vanilla", number=0.3)
    save_run("d/vanilla", "--seed=1", number=0.1)  # joins the first one
    shown = {row["run"]: row["loss/train"] for row in show("a", "b", "c", "d").rows}
    assert shown == {"vanilla": "0.1000 ± 0.0000", "b/vanilla": "0.2000", "c/vanilla": "0.3000"}


def test_only_a_seed_at_the_end_is_cut_off_a_name():
    save_run("runs/a-seed7-again")
    save_run("runs/reseed1")
    assert column("run") == ["a-seed7-again", "reseed1"]


# Runs with the same name


def test_settings_tell_runs_with_the_same_name_apart():
    save_run("a/vanilla")
    save_run("b/vanilla", "--lr=0.5", "--seed=1")
    save_run("b/xavier", "--lr=0.7")
    assert column("run", "a", "b") == ["vanilla, lr 0.2", "vanilla, lr 0.5", "xavier"]


def test_a_flag_that_only_one_run_has_tells_it_apart():
    save_run("a/vanilla")
    save_run("b/vanilla", settings=settings_of("--seed=1") | {"label_smoothing": 0.1})
    assert column("run", "a", "b") == ["vanilla", "vanilla, label_smoothing 0.1"]


def test_epochs_tell_runs_with_the_same_name_apart():
    save_run("a/vanilla", "--epochs=3", epochs=3)
    save_run("b/vanilla", "--seed=1")
    titles = [row["run"] for row in show("a", "b").rows]
    assert titles == ["vanilla, epochs 2", "vanilla, epochs 3"]


def test_an_older_run_may_lack_a_flag_of_the_study():
    settings = settings_of()
    del settings["depth"]
    save_run("runs/vanilla", settings=settings)
    assert column("run") == ["vanilla"]


# Where it looks


def test_runs_are_found_in_several_folders_at_any_depth(directory):
    save_run("a/b/c/one")
    save_run("my [runs]/three")  # the brackets are no pattern
    save_run(directory / "home/two")
    assert column("run", "a", "my [runs]", "~/home") == ["one", "three", "two"]


def test_the_default_folder_is_runs():
    save_run("runs/vanilla")
    save_run("elsewhere/zero")
    assert column("run") == ["vanilla"]


def test_the_current_directory_can_be_the_run(monkeypatch):
    save_run("runs/vanilla")
    monkeypatch.chdir("runs/vanilla")
    assert column("run", ".") == ["vanilla"]


def test_a_run_that_is_found_twice_counts_once():
    save_run("elsewhere/vanilla")
    Path("runs").mkdir()
    Path("runs/link").symlink_to("../elsewhere")
    assert column("run", "elsewhere", "runs", "elsewhere/vanilla") == ["vanilla"]


def test_a_folder_without_runs_is_an_error():
    shown = show("here", "there")
    message = "results.py: error: there is no run in here, there; train.py makes one"
    assert (shown.errors, shown.code, shown.rows) == ([message], 1, [])


# What is left out


def test_runs_that_did_not_finish_are_left_out_by_name():
    save_run("runs/c-finished")
    save_run("runs/b-short", "--epochs=3")
    Path("runs/a-diverged").mkdir()
    Path("runs/a-diverged/events.out.tfevents.1").touch()
    shown = show()
    assert shown.errors == [
        "results.py: error: runs/a-diverged left out: no checkpoint: it diverged, or stopped "
        "before the end of its first epoch",
        "results.py: error: runs/b-short left out: not finished, 2 of 3 epochs"]
    assert shown.code == 1
    assert [row["run"] for row in shown.rows] == ["c-finished"]


def test_if_all_runs_are_left_out_no_table_is_printed():
    save_run("runs/short", "--epochs=3")
    shown = show()
    assert shown.errors == ["results.py: error: runs/short left out: not finished, 2 of 3 epochs"]
    assert (shown.code, shown.output) == (1, "")


def test_what_is_not_a_complete_checkpoint_is_left_out():
    settings, metrics = settings_of(), dict.fromkeys(COLUMNS, 0.5)
    contents = {
        "empty": {}, "list": [1], "other program": {"state_dict": {}},
        "no epoch": {"settings": settings, "history": []},
        "no seed": {"settings": {"epochs": 1}, "history": [metrics]},
        "no loss": {"settings": settings, "history": [metrics | {"loss/val": None}] * 2},
        "numbers": {"settings": 3, "history": 4}}
    for name, content in contents.items():
        Path("runs", name).mkdir(parents=True)
        torch.save(content, f"runs/{name}/checkpoint.pt")
    Path("runs/not a file/checkpoint.pt").mkdir(parents=True)
    save_run("runs/cut short")
    path = Path("runs/cut short/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:-1])
    names = [re.match("results.py: error: runs/(.*?) left out: ", line)[1]
             for line in show().errors]
    assert names == sorted([*contents, "not a file", "cut short"])


def test_a_hostile_run_is_left_out_and_executes_no_code():
    save_run("runs/hostile", settings=settings_of() | {"bomb": Bomb()})
    shown = show()
    assert not Path("exploded").exists()
    assert len(shown.errors) == 1
    assert shown.errors[0].startswith("results.py: error: runs/hostile left out: ")


def test_a_run_from_another_device_is_shown(monkeypatch):
    with monkeypatch.context() as patch:  # a file that says that its tensors lie on cuda:99
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:99")
        save_run("runs/vanilla")
    assert b"cuda:99" in Path("runs/vanilla/checkpoint.pt").read_bytes()
    assert column("run") == ["vanilla"]


# Differences, worked out by hand


def test_differences_are_paired_by_seed_in_each_column():
    save_seeds("vanilla", [1.0, 0.3, 0.8], folder="a")
    save_seeds("xavier", [0.9, 0.1, 0.5], folder="b")
    rows = show("a", "b", "--against=vanilla").rows
    assert {row["run, minus vanilla"] for row in rows} == {"xavier"}
    # The first column: -0.1, -0.2, -0.3. Mean -0.2, standard deviation sqrt(0.02 / 2) = 0.1.
    assert [(row["column"], row["difference"]) for row in rows] == [
        ("loss/train", "-0.2000 ± 0.1000"), ("loss/train_clean", "-0.4000 ± 0.2000"),
        ("loss/val", "-0.6000 ± 0.3000"), ("loss/test", "-0.8000 ± 0.4000"),
        ("loss/gap", "-1.0000 ± 0.5000"), ("accuracy/test", "-1.2000 ± 0.6000"),
        ("accuracy/mirrored", "-1.4000 ± 0.7000")]


def test_differences_show_in_how_many_seeds_a_run_is_higher():
    save_seeds("vanilla", [1.0, 1.0, 1.0, 1.0])
    save_seeds("xavier", [0.9, 1.0, 1.1, 1.2])
    assert column("higher in", "--against=vanilla") == ["2 of 4"] * len(COLUMNS)


def test_differences_leave_out_seeds_that_only_one_run_has():
    save_seeds("vanilla", [9.0, 0.4, 0.4, 0.4], first_seed=0)
    save_seeds("xavier", [0.5, 0.6, 0.7, 5.0], first_seed=1)
    first = show("--against=vanilla").rows[0]
    assert (first["difference"], first["higher in"]) == ("+0.2000 ± 0.1000", "3 of 3")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> SimpleNamespace:
    """What results.py shows of rows with 3, 5 and 10 seeds, against a reference with 10.

    All standard deviations are 1. A row is named after its number of seeds and its mean.
    """
    runs = tmp_path_factory.mktemp("verdicts")
    deviations = {3: [-1, 0, 1], 5: [-1, -1, 0, 1, 1],
                  10: [-1.5, -1.5, 1.5, 1.5, 0, 0, 0, 0, 0, 0]}
    save_seeds("reference", [4.0] * 10, folder=runs)
    for n, mean in (3, 2.47), (3, 2.5), (3, -2.47), (3, -2.5), (5, 1.23), (5, 1.25), (10, 0.71), \
            (10, 0.72):
        save_seeds(f"{n} {mean}", [4 + mean + step for step in deviations[n]], folder=runs)
    save_seeds("equal", [4.0] * 3, folder=runs)
    return show(runs, "--against=reference")


def test_a_difference_within_students_limit_may_be_luck(verdicts):
    lucky = {row["run, minus reference"] for row in verdicts.rows if row[""] == "may be luck"}
    assert lucky == {"3 2.47", "3 -2.47", "5 1.23", "10 0.71", "equal"}
    assert {row[""] for row in verdicts.rows} == {"may be luck", ""}


def test_the_rule_for_luck_stands_below_the_table(verdicts):
    rule = " ".join(verdicts.output.rpartition("|")[2].split())
    assert rule == (
        "A difference is mean ± standard deviation over the seeds that both runs have. It may be "
        "luck if the mean is no larger than the standard deviation times Student's t (95%) / "
        "sqrt(seeds): 2.48 times with 3 seeds, 1.24 times with 5 seeds, 0.72 times with 10 seeds.")


def probability_within(t: float, degrees_of_freedom: int) -> float:
    """Return the probability of [-t, t] in Student's t distribution, integrated numerically.

    With x = sqrt(degrees of freedom) * tan(angle), the density is cos(angle)^(degrees - 1).
    """
    steps = (numpy.arange(20_000) + 0.5) / 20_000
    end = math.atan(t / math.sqrt(degrees_of_freedom))
    inside, all_angles = (
        limit * numpy.mean(numpy.cos(limit * steps) ** (degrees_of_freedom - 1))
        for limit in (end, math.pi / 2))
    return inside / all_angles


def test_the_limits_are_those_of_students_t_distribution():
    wrong = {}
    for n in range(2, 21):
        t = results.luck_limit(n) * math.sqrt(n)  # rounded to 3 digits
        below, above = (probability_within(t + error, n - 1) for error in (-0.00051, 0.00051))
        if not below < 0.95 < above:
            wrong[n] = t
    assert wrong == {}


def test_more_than_20_seeds_have_a_limit_that_is_strict_enough():
    within = {n: probability_within(results.luck_limit(n) * math.sqrt(n), n - 1)
              for n in (21, 22, 100)}
    assert all(0.95 < probability < 0.965 for probability in within.values()), within


def test_a_reference_that_is_not_a_row_is_an_error():
    save_run("a/vanilla")
    save_run("b/vanilla", "--lr=0.5")
    shown = show("a", "b", "--against=vanilla")
    message = ("results.py: error: --against vanilla must name one row of the table: "
               "vanilla, lr 0.2; vanilla, lr 0.5")
    assert (shown.errors, shown.code, shown.rows) == ([message], 1, [])


def test_a_reference_that_is_two_rows_is_an_error():
    for seed in "--seed=0", "--seed=1":
        save_run(f"a{seed}/vanilla", seed)
        save_run(f"b{seed}/vanilla", seed, "--epochs=3", epochs=3)
    shown = show(*Path().iterdir(), "--against=vanilla")
    assert (len(shown.errors), shown.code, shown.rows) == (1, 1, [])


def test_a_difference_needs_two_seeds_in_common():
    save_seeds("vanilla", [0.1, 0.2, 0.3])
    save_seeds("one", [0.1, 0.2], first_seed=2)
    save_seeds("two", [0.1, 0.2], first_seed=1)
    save_run("runs/short", "--epochs=3")
    shown = show("--against=vanilla")
    assert {row["run, minus vanilla"] for row in shown.rows} == {"two"}
    assert shown.errors == [
        "results.py: error: runs/short left out: not finished, 2 of 3 epochs",
        "results.py: error: one left out: a difference needs at least 2 seeds that both runs "
        "have, but vanilla has 1 of its 2; train both with more values of --seed"]
    assert shown.code == 1


# As a program


def test_results_py_is_a_program_that_needs_no_unix(monkeypatch, capsys):
    save_run("runs/vanilla", number=0.1)
    monkeypatch.setattr(sys, "argv", ["results.py"])
    for module in "fcntl", "grp", "pwd", "resource", "termios":
        monkeypatch.setitem(sys.modules, module, None)  # an import raises ImportError
    runpy.run_path(str(ROOT / "results.py"), run_name="__main__")
    assert "| vanilla | 1 | 2 | 0.1000 |" in capsys.readouterr().out
