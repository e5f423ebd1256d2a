"""What the flags promise: defaults, settings, directory names, errors. Plumbing, not the lesson."""

import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import train
from conftest import EXPERIMENTS, checkpoint, quick_run

DEFAULTS = {"init": "default", "augment": False, "dropout": 0.0, "depth": 1, "hidden": 100,
            "examples": 55_000, "epochs": 20, "batch_size": 128, "lr": 0.2, "patience": 2,
            "seed": 0}


def test_the_settings_are_the_flags_that_affect_the_results():
    """They do not include where a run is computed and saved."""
    assert train.settings_of(train.parse_args([])) == DEFAULTS


def test_the_settings_are_saved_with_the_run(plain_run):
    found = checkpoint(plain_run.directory)["settings"]
    assert found == DEFAULTS | {"seed": 5, "hidden": 20, "epochs": 4, "batch_size": 120, "lr": 0.5}


def test_threads_is_the_number_of_threads_and_1_by_default():
    counts = []
    for flags in ["--threads=3"], []:
        quick_run(*flags, "--epochs=1", log_dir=f"run{flags}")
        counts.append(torch.get_num_threads())
    assert counts == [3, 1]


def test_help_lists_every_flag_with_its_default(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "1000")  # so wide that no entry is broken into lines
    with pytest.raises(SystemExit) as end:
        train.main(["--help"])
    assert end.value.code == 0
    entries = [entry.split() for entry in capsys.readouterr().out.split("\n  --")]
    helps = {f"--{words[0]}": " ".join(words) for words in entries}
    machine = {"threads": 1, "device": "cpu", "data_dir": train.DEFAULT_DATA_DIR, "resume": False,
               "log_dir": "named after the flags, e.g. runs/xavier-augment"}
    for name, default in (DEFAULTS | machine).items():
        flag = f"--{name.replace('_', '-')}"
        assert f"(default: {default})" in helps.get(flag, "no help"), flag


# The name of a run's directory


def test_a_run_is_named_after_the_flags_that_are_not_default():
    names = {
        "vanilla": EXPERIMENTS["vanilla"],
        "zero": EXPERIMENTS["zero"],
        "xavier": EXPERIMENTS["xavier"],
        "xavier-augment": EXPERIMENTS["xavier-augment"],
        "xavier-augment-dropout0.5": EXPERIMENTS["xavier-augment-dropout"],
        "zero-lr0.1234567-seed3": ["--seed=3", "--lr=0.1234567", "--init=zero"],
        "vanilla-depth20-hidden50-patience1000": ["--patience=1000", "--hidden=50", "--depth=20"],
        "vanilla-examples300-batch-size5": ["--batch-size=5", "--examples=300"],
        "vanilla-hidden1-patience0": ["--hidden=1", "--patience=0", "--seed=0", "--dropout=0"],
        "kaiming": ["--init=kaiming", "--epochs=9", "--threads=2", "--device=cpu:0", "--resume"],
    }
    found = {name: train.parse_args(flags).log_dir for name, flags in names.items()}
    assert found == {name: Path("runs", name) for name in names}


def test_a_tilde_in_a_flag_is_the_home_directory(directory, data_dir):
    """A shell does not expand it after the "="."""
    Path("data").symlink_to(data_dir)
    quick_run("--data-dir=~/data", "--epochs=1", log_dir="~/run")
    assert (directory / "run" / "checkpoint.pt").exists()


def test_a_flag_that_a_learner_adds_is_a_setting(monkeypatch):
    """Without a change elsewhere it is saved, and the run's directory is named after it."""
    make_parser = train.make_parser

    def make_longer_parser():
        parser = make_parser()
        parser.add_argument("--label-smoothing", type=float, default=0.0)
        return parser

    monkeypatch.setattr(train, "make_parser", make_longer_parser)
    train.main(["--epochs=1", "--hidden=5", "--label-smoothing=0.1"])
    settings = checkpoint("runs/vanilla-hidden5-label-smoothing0.1")["settings"]
    assert settings["label_smoothing"] == 0.1


# Errors


@pytest.fixture
def error_of(monkeypatch, capsys):
    """A function that returns why train.py refused flags, before it did any work."""
    monkeypatch.setattr(train, "train", lambda _: pytest.fail("the flags were accepted"))

    def get_error(*flags) -> str:
        with pytest.raises(SystemExit):
            train.main([*flags])
        *_, line = capsys.readouterr().err.splitlines()
        return line.partition(": error: ")[2]

    return get_error


def test_wrong_flags_give_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    for flags in ["--init=he"], ["--lr=0"]:
        with pytest.raises(SystemExit) as end:
            train.main(["--log-dir=new/run", *flags])
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), end.value.code) == ("", 1, 2), flags
    assert err == "train.py: error: --lr must be above 0 and at most 1e9\n"
    assert not Path("new").exists()


RANGES = {  # flag: what is refused, what is accepted, the message
    "--dropout": (["1", "-0.1", "nan"], ["0", "0.999"], "at least 0 and below 1"),
    "--depth": (["0", "1000"], ["1", "999"], "at least 1 and at most 999"),
    "--hidden": (["0", "1000000"], ["1", "999999"], "at least 1 and at most 999999"),
    "--examples": (["0", "55001"], ["1", "55000"], "at least 1 and at most 55000"),
    "--epochs": (["0", "1000000"], ["1", "999999"], "at least 1 and at most 999999"),
    "--batch-size": (["0", "1000000"], ["1", "999999"], "at least 1 and at most 999999"),
    "--threads": (["0", "1000"], ["1", "999"], "at least 1 and at most 999"),
    "--lr": (["0", "-1", "nan", "inf", "1.1e9"], ["1e-9", "1e9"], "above 0 and at most 1e9"),
    "--patience": (["-1"], ["0", "999999"], "at least 0"),
    "--seed": (["-1", "100000"], ["0", "99999"], "at least 0 and below 100000"),
}


@pytest.mark.parametrize("flag", RANGES)
def test_a_number_out_of_range_is_refused_with_the_range(flag, error_of):
    refused, accepted, text = RANGES[flag]
    errors = {value: error_of(f"{flag}={value}") for value in refused}
    assert errors == dict.fromkeys(refused, f"{flag} must be {text}")
    for value in accepted:
        args = train.parse_args([f"{flag}={value}"])
        assert vars(args)[flag.strip("-").replace("-", "_")] == float(value)


def test_what_is_not_a_number_or_not_a_whole_one_is_refused(error_of):
    for flag in RANGES:
        for value in ["many"] if flag in ("--dropout", "--lr") else ["many", "1.5"]:
            error = error_of(f"{flag}={value}")
            assert flag in error and value in error, error


def test_an_unknown_mode_is_refused_with_the_known_ones(error_of):
    error = error_of("--init=he")
    for word in "--init", "'he'", "default", "zero", "xavier", "kaiming":
        assert word in error


def test_an_unknown_or_abbreviated_flag_is_refused(error_of):
    for flag in "--drop=0.5", "--aug", "--no-such-flag=1", "x":
        assert error_of(flag) == f"unrecognized arguments: {flag}"


def test_a_device_that_does_not_work_is_refused_with_advice(error_of):
    for device in "x", "meta", "hpu", "cuda:99":
        error = error_of(f"--device={device}")
        advice, _, reason = error.partition(" (")
        assert advice == f"--device {device} does not work here; try cpu, cuda, cuda:1 or mps"
        assert len(reason) > 10, error


def test_the_reason_against_a_device_is_one_sentence(error_of, monkeypatch):
    """PyTorch says more, in one line or several, and with three kinds of exceptions."""

    for error in (RuntimeError("Found no driver\nPlease check that\nyou have one."),
                  AssertionError("Found no driver. Please check that you have one."),
                  ImportError("Found no driver")):
        monkeypatch.setattr(torch, "ones", Mock(side_effect=error))
        assert error_of("--device=cuda").endswith("or mps (Found no driver)"), repr(error)


def test_a_directory_that_contains_a_run_is_refused(error_of):
    Path("run").mkdir()
    Path("run/checkpoint.pt").touch()
    assert error_of("--log-dir=run") == (
        "run contains a run; use --resume to continue it, or another --log-dir")


def test_a_directory_with_other_files_is_not_refused():
    Path("run").mkdir()
    Path("run/notes.txt").touch()
    Path("run/events.out.tfevents.1.host").touch()  # of a run that stopped in its first epoch
    assert len(quick_run("--epochs=1")) == 1


def test_a_file_in_place_of_the_directory_is_refused(error_of):
    Path("file").touch()
    assert error_of("--log-dir=file") == "--log-dir file is a file but must be a directory"
