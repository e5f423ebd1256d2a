"""What the flags promise: defaults, settings, directory names, and errors in one line."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import train
from conftest import EXPERIMENTS, ROOT, checkpoint, run

pytestmark = pytest.mark.usefixtures("only_epochs_logged")
DEFAULTS = {"init": "default", "augment": False, "dropout": 0.0, "depth": 1, "hidden": 100,
            "epochs": 20, "batch_size": 128, "lr": 0.2, "patience": 2, "seed": 0}


@pytest.mark.parametrize("flag", DEFAULTS)
def test_each_flag_has_its_default(flag):
    assert train.parse_args([]).settings[flag] == DEFAULTS[flag]


def test_where_a_run_is_computed_is_none_of_its_settings():
    settings = train.parse_args([]).settings
    assert {"device", "threads", "data_dir", "log_dir", "resume"} & settings.keys() == set()


def test_by_default_one_thread_of_the_cpu_computes():
    args = train.parse_args([])
    assert (args.device, args.threads) == ("cpu", 1)


def test_by_default_the_data_lie_beside_the_scripts():
    assert train.parse_args([]).data_dir == ROOT / "datasets"


def test_threads_are_the_threads_to_compute_with(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", Mock())  # this process keeps its own
    run("--threads", 3, "--epochs", 1)
    torch.set_num_threads.assert_called_once_with(3)


def test_the_settings_are_saved_with_the_run(plain_run):
    found = checkpoint(plain_run.directory)["settings"]
    expected = DEFAULTS | {"seed": 5, "hidden": 20, "epochs": 4, "batch_size": 120, "lr": 0.5}
    assert {flag: found.get(flag) for flag in expected} == expected


# Help


@pytest.fixture
def help_entries(capsys, monkeypatch) -> dict[str, str]:
    """What --help prints of each flag: {"--lr": "lr X learning rate at the start ...", ...}."""
    monkeypatch.setenv("COLUMNS", "1000")  # so wide that no entry is broken into lines
    with pytest.raises(SystemExit) as end:
        train.main(["--help"])
    assert end.value.code == 0
    entries = [entry.split() for entry in capsys.readouterr().out.split("\n  --")]
    return {f"--{words[0]}": " ".join(words) for words in entries}


@pytest.mark.parametrize("flag", [*DEFAULTS, "threads", "device", "data_dir", "log_dir", "resume"])
def test_help_tells_every_flag_with_its_default(flag, help_entries):
    default = train.make_parser().get_default(flag)
    assert f" (default: {default})" in help_entries[f"--{flag.replace('_', '-')}"]


# The name of a run's directory


NAMES = {
    "zero-lr0.1234567-seed3": ["--seed=3", "--lr=0.1234567", "--init=zero"],
    "vanilla-dropout0.55": ["--dropout=0.55"],
    "vanilla-batch-size5": ["--batch-size=5"],
    "vanilla-hidden1-seed1": ["--seed=1", "--hidden=1"],
    "vanilla-depth20-hidden50-patience1000": ["--patience=1000", "--hidden=50", "--depth=20"],
    "vanilla-patience0": ["--patience=0"],
    "kaiming": ["--init=kaiming", "--epochs=9", "--threads=2", "--device=cpu:0", "--resume"],
}


@pytest.mark.parametrize("name", EXPERIMENTS | NAMES)
def test_a_directory_is_named_after_what_differs(name):
    flags = (EXPERIMENTS | NAMES)[name]
    assert train.parse_args(flags).log_dir == Path("runs", name)


def test_a_run_goes_into_the_directory_named_after_it():
    train.main(["--data-dir=data", "--epochs=1", "--hidden=5"])
    assert Path("runs/vanilla-hidden5/checkpoint.pt").exists()


@pytest.mark.parametrize("flag", ["--log-dir", "--data-dir"])
def test_a_tilde_in_a_flag_is_the_home_directory(flag, home):
    args = train.parse_args([f"{flag}=~/x"])
    assert {"--log-dir": args.log_dir, "--data-dir": args.data_dir}[flag] == home / "x"


# A flag that a learner adds


@pytest.fixture
def add_flag(monkeypatch):
    """A function that adds --label-smoothing to make_parser(), as a learner might."""
    make_parser = train.make_parser

    def make_longer_parser():
        parser = make_parser()
        parser.add_argument("--label-smoothing", type=float, default=0.0)
        return parser

    return lambda: monkeypatch.setattr(train, "make_parser", make_longer_parser)


def test_a_new_flag_is_recorded_without_further_code(add_flag):
    add_flag()
    run("--epochs", 1, "--label-smoothing", 0.1)
    assert checkpoint()["settings"]["label_smoothing"] == 0.1


def test_a_new_flag_shows_in_the_directory_name(add_flag):
    add_flag()
    assert train.parse_args(["--label-smoothing=0.1"]).log_dir.name == "vanilla-label-smoothing0.1"


def test_an_older_run_resumes_with_the_default_of_a_new_flag(add_flag):
    run("--epochs", 1)
    add_flag()
    assert len(run("--epochs", 2, "--resume")) == 2


def test_an_older_run_does_not_resume_with_another_value(add_flag):
    run("--epochs", 1)
    add_flag()
    with pytest.raises(SystemExit, match="--label-smoothing was 0.0 and is 0.1;"):
        run("--epochs", 2, "--resume", "--label-smoothing", 0.1)


# Errors


@pytest.fixture
def error_of(monkeypatch, capsys):
    """A function that returns train.py's line about wrong flags, which came before any work."""
    monkeypatch.setattr(train, "train", lambda args: pytest.fail(f"accepted: {args}"))

    def get_error(*flags) -> str:
        with pytest.raises(SystemExit) as end:
            train.main(list(flags))
        lines = capsys.readouterr().err.splitlines()
        assert (len(lines), end.value.code) == (1, 2), f"lines and exit code, of {lines}"
        return lines[0].partition(": error: ")[2]

    return get_error


RANGES = {
    "--dropout": "number of at least 0 and below 1",
    "--depth": "whole number of at least 1 and below 1000",
    "--hidden": "whole number of at least 1 and below 1000000",
    "--epochs": "whole number of at least 1 and below 1000000",
    "--batch-size": "whole number of at least 1 and below 1000000",
    "--lr": "number of at least 1e-09 and below 1000000000",
    "--patience": "whole number of at least 0 and below 1000000",
    "--seed": "whole number of at least 0 and below 100000",
    "--threads": "whole number of at least 1 and below 1000",
}


@pytest.mark.parametrize("flag, value", [
    ("--dropout", "1"), ("--dropout", "-0.1"), ("--dropout", "nan"), ("--dropout", "half"),
    ("--depth", "0"), ("--depth", "1000"), ("--depth", "1.5"),
    ("--hidden", "0"), ("--hidden", "1000000"), ("--hidden", "many"),
    ("--epochs", "0"), ("--epochs", "1000000"), ("--epochs", "1.5"),
    ("--batch-size", "0"), ("--batch-size", "1000000"), ("--batch-size", "1e2"),
    ("--lr", "0"), ("--lr", "-1"), ("--lr", "inf"), ("--lr", "nan"), ("--lr", "0,1"),
    ("--patience", "-1"), ("--patience", "1000000"), ("--patience", "nan"),
    ("--seed", "-1"), ("--seed", "100000"), ("--seed", "x"),
    ("--threads", "0"), ("--threads", "1000"), ("--threads", "two"),
])
def test_a_number_out_of_range_is_refused_with_the_range(flag, value, error_of):
    expected = f"argument {flag}: must be a {RANGES[flag]}, got {value}"
    assert error_of("--log-dir=new", f"{flag}={value}") == expected


@pytest.mark.parametrize("flag, value", [
    ("--dropout", 0), ("--dropout", 0.999), ("--depth", 1), ("--depth", 999), ("--hidden", 1),
    ("--hidden", 999_999), ("--epochs", 1), ("--epochs", 999_999), ("--batch-size", 1),
    ("--batch-size", 999_999), ("--lr", 1e-9), ("--lr", 9e8), ("--patience", 0),
    ("--patience", 999_999), ("--seed", 0), ("--seed", 99_999)])
def test_a_number_at_the_end_of_its_range_is_taken(flag, value):
    settings = train.parse_args([f"{flag}={value}"]).settings
    assert settings[flag.strip("-").replace("-", "_")] == value


def test_an_unknown_mode_is_refused_with_the_known_ones(error_of):
    error = error_of("--init=he")
    for word in "--init", "'he'", "default", "zero", "xavier", "kaiming":
        assert word in error


@pytest.mark.parametrize("flag", ["--drop=0.5", "--aug", "--no-such-flag=1", "x"])
def test_an_unknown_or_shortened_flag_is_refused(flag, error_of):
    assert error_of("--log-dir=new", flag) == f"unrecognized arguments: {flag}"


@pytest.mark.parametrize("device", ["x", "meta", "hpu", "cuda:99"])
def test_a_device_that_does_not_work_is_refused(device, error_of):
    error = error_of("--log-dir=new", f"--device={device}")
    beginning, _, reason = error.partition(f"argument --device: {device} does not work here: ")
    assert beginning == ""
    assert reason != ""


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, ImportError])
def test_the_reason_against_a_device_is_one_sentence(kind, error_of, monkeypatch):
    def ones(*_, device):
        raise kind("Found no driver on your system. Please check that\nyou have one.\nAnd so on.")

    monkeypatch.setattr(torch, "ones", ones)
    expected = "argument --device: cuda does not work here: Found no driver on your system"
    assert error_of("--log-dir=new", "--device=cuda") == expected


@pytest.mark.parametrize("directory", ["run", "my [run]"])
@pytest.mark.parametrize("name", ["checkpoint.pt", "events.out.tfevents.1"])
def test_a_directory_that_holds_a_run_is_refused(name, directory, error_of):
    Path(directory).mkdir()
    Path(directory, name).touch()
    expected = f"{directory} holds a run; use --resume to go on, or another --log-dir"
    assert error_of(f"--log-dir={directory}") == expected


def test_a_directory_that_holds_something_else_is_taken():
    Path("run").mkdir()
    Path("run/notes.txt").touch()
    assert len(run("--epochs", 1)) == 1


@pytest.mark.parametrize("flag", ["--log-dir", "--data-dir"])
def test_a_file_in_place_of_a_directory_is_refused(flag, error_of):
    Path("file").touch()
    expected = f"argument {flag}: file is a file and must be a directory"
    assert error_of("--log-dir=new", f"{flag}=file") == expected


def test_a_refused_command_makes_no_directory(error_of):
    error_of("--log-dir=new", "--lr=0")
    assert not Path("new").exists()
