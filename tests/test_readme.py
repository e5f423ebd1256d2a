"""What the README shows is what the program does."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import FashionMNIST

import download
import results
import train
from conftest import EXPERIMENTS, README, ROOT, logged, make_script, run
from model import MLP

COMMANDS = sorted(set(re.findall(r"python train\.py([^`\n#…]*)", README)) - {" --help"})
FILES = sorted(set(re.findall(r"\]\(([\w./]+)\)", README)))


def table_rows(titles: str) -> list[str]:
    """Return the lines below the titles of the README's table whose titles begin so."""
    return README[README.index(titles):].split("\n\n")[0].splitlines()[2:]


def rows_by_run(titles: str) -> dict[str, list[str]]:
    """Return the cells of each row of the README's table whose titles begin so: {run: cells}."""
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in table_rows(titles)]
    return {row[0]: row for row in rows}


MEANS = rows_by_run("| run | train loss | clean train loss | test loss | gap | test accuracy | ")
RIDDLE = rows_by_run("| run | study: train loss | ours | study: accuracy | ours | ours, mirrored |")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_training_command_is_understood(command):
    command = command.replace("$init", "xavier")  # in a loop over the modes
    for mode_of_an_exercise in "equal ", "mine ":  # but not --log-dir exercises/equal
        command = command.replace(mode_of_an_exercise, "zero ")
    flags = shlex.split(command)
    assert train.parse_args(flags)


def test_the_readme_names_the_directory_of_one_run_alone():
    (command, directory), = re.findall(r"python train\.py (.*)\n```\n\ntrains into `(.*?)`", README)
    assert train.parse_args(shlex.split(command)).log_dir == Path(directory)


def test_the_readmes_command_for_more_epochs_fits_an_experiment():
    (command,) = [command for command in COMMANDS if "--resume" in command]
    longer = train.parse_args(shlex.split(command))
    run = train.parse_args(EXPERIMENTS[longer.log_dir.name])
    assert {**longer.settings, "epochs": run.epochs} == run.settings


def test_the_readme_tells_the_fixed_settings():
    args = train.parse_args([])
    assert f"SGD with a learning rate of {args.lr} and batches of {args.batch_size} " in README
    assert f"(`--patience {args.patience}`: " in README


def test_results_py_averages_the_directories_of_the_readme():
    """For another seed, another directory with the same last name."""
    (another, first), = re.findall("into `(purpose/.*?)` instead of `(.*?)`", README)
    for seed, directory in enumerate([first, another]):
        run("--seed", seed, "--epochs", 1, "--hidden", 5, log_dir=directory)
    rows = results.main(["purpose"])
    assert [row["seeds"] for row in rows] == [[0, 1]]


@pytest.mark.parametrize("name, flags", EXPERIMENTS.items(), ids=EXPERIMENTS)
def test_the_readme_has_the_command_of_each_experiment(name, flags):
    assert f"**`{' '.join(['python train.py', *flags])}`**" in README


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_linked_exists(file):
    assert (ROOT / file).exists()


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("column, riddle_column", [(1, 2), (5, 4), (6, 5)],
                         ids=["train loss", "test accuracy", "mirrored"])
def test_the_readmes_two_tables_of_ten_seeds_agree(name, column, riddle_column):
    rounded = MEANS[name][column]
    exact = float(RIDDLE[name][riddle_column].split(" ± ")[0])
    half_a_digit = 0.5 / 10 ** len(rounded.split(".")[1])
    assert float(rounded) == pytest.approx(exact, abs=1.01 * half_a_digit)


def test_the_readme_shows_the_titles_of_the_screen(capsys):
    run("--epochs", 1)
    _, upper_titles, titles, *_ = capsys.readouterr().out.splitlines()
    assert f"\n{upper_titles}\n{titles}\n" in README


def test_the_readme_shows_the_titles_of_the_table(plain_run, capsys):
    results.main([str(plain_run.directory)])
    titles = capsys.readouterr().out.splitlines()[0]
    assert f"\n{titles}\n" in README


def test_the_readme_names_the_directory_for_files_saved_by_hand():
    raw = download.DEFAULT_DATA_DIR / "FashionMNIST" / "raw"
    assert f"in\n  `{raw.relative_to(ROOT)}`" in README


def test_the_readme_names_only_tags_that_tensorboard_shows():
    run("--epochs", 1, "--hidden", 5, "--lr", 1e-4)  # which leaves mistakes to show
    names = [name for line in table_rows("| tag |")
             for name in re.findall("`(.*?)`", line.split("|")[1])]
    shown = [tag.removesuffix("/text_summary") for tag in logged()]
    for name in names:
        if name.endswith("…"):  # the beginning of tags
            assert any(tag.startswith(name[:-1]) for tag in shown), name
        else:  # a tag, or the end of some, as val of loss/val
            assert any(f"/{tag}".endswith(f"/{name}") for tag in shown), name


# The README's programs


@pytest.fixture
def answers(capsys) -> tuple[list[str], list[str]]:
    """What look.py prints about a grey picture, line by line, and what the network answers: the
    probability of each class. A grey of 102 of 255 is a pixel of 0.4."""
    run("--epochs", 1, log_dir="runs/xavier")
    capsys.readouterr()
    Image.new("RGB", (300, 400), (102, 102, 102)).save("garment.png")
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(lines, "README.md", "exec"), {})
    model = MLP()
    model.load_state_dict(torch.load("runs/xavier/checkpoint.pt", weights_only=True)["model"])
    probabilities = model(torch.full((1, 28, 28), 0.4)).softmax(dim=1).flatten().tolist()
    return capsys.readouterr().out.splitlines(), [f"{p:.3f}" for p in probabilities]


def test_look_py_names_each_class_in_its_order(answers):
    printed, _ = answers
    assert [line.split(" ", 1)[1] for line in printed] == FashionMNIST.classes


def test_look_py_shows_the_networks_probabilities(answers):
    printed, expected = answers
    assert [line.split(" ", 1)[0] for line in printed] == expected


@pytest.mark.parametrize("init, number", [("default", 7), ("zero", 1)])
def test_the_readmes_line_counts_different_hidden_units(init, number, capsys):
    run("--epochs", 1, "--hidden", 7, "--init", init, log_dir="exercises/equal")
    (line,) = re.findall('python -c "(import torch; .*)"`', README)
    capsys.readouterr()
    exec(line, {})
    assert capsys.readouterr().out == f"{number}\n"


def shell(command: str, **environment: str) -> list[str]:
    """Return how a command of the README calls experiments.sh: RUNS and arguments, sorted."""
    make_script(Path("experiments.sh"), '#!/bin/sh\necho "$RUNS $*"\n')
    done = subprocess.run(["sh", "-c", command], env=os.environ | environment, text=True,
                          stdout=subprocess.PIPE, timeout=60)
    return sorted(done.stdout.splitlines())


def test_many_seeds_are_ten_seeds_each_in_its_directory():
    (command,) = re.findall(r"^seq .*", README, re.MULTILINE)
    assert shell(command) == [f"seeds/{seed} --seed {seed}" for seed in range(10)]


def test_a_job_of_slurm_trains_the_seed_of_its_number():
    (command,) = re.findall("^sbatch --array=0-9 --wrap '(.*)'", README, re.MULTILINE)
    assert shell(command, SLURM_ARRAY_TASK_ID="8") == ["seeds/8 --seed 8"]
