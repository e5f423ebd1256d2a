"""What the README shows is what the program does."""

import re
import shlex

import pytest
from PIL import Image

import train
from conftest import EXPERIMENTS, ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python train\.py([^`\n#…]*)", README)) - {" --help"})
FILES = sorted(set(re.findall(r"\]\(([\w./]+)\)", README)))


def first_cells(table_title: str) -> dict[str, list[str]]:
    """Return {run: its other cells} of the README's table that has this title."""
    lines = README[README.index(table_title):].split("\n\n")[0].splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1:] for row in rows}


MEANS = first_cells("| run | train loss |")
RIDDLE = first_cells("| run | study: train loss |")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_training_command_is_understood(command):
    command = command.replace("$init", "xavier")  # in a loop over the modes
    for mode_of_an_exercise in "equal ", "mine ":
        command = command.replace(mode_of_an_exercise, "zero ")
    flags = shlex.split(command)
    assert train.parse_args(flags)


@pytest.mark.parametrize("name, flags", EXPERIMENTS.items(), ids=EXPERIMENTS)
def test_an_experiment_is_explained_by_its_command(name, flags):
    assert f"**`{' '.join(['python train.py', *flags])}`**" in README


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_linked_exists(file):
    assert (ROOT / file).exists()


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("mean, detailed", [(0, 1), (4, 3), (5, 4)],
                         ids=["train loss", "test accuracy", "mirrored"])
def test_the_first_tables_numbers_are_the_riddle_tables(name, mean, detailed):
    rounded = MEANS[name][mean]
    digits = len(rounded.split(".")[1])
    more_digits = float(RIDDLE[name][detailed].split(" ± ")[0])
    assert float(rounded) == pytest.approx(more_digits, abs=0.51 / 10**digits)


def test_the_readme_shows_the_titles_of_the_screen(capsys):
    run("--epochs", 1)
    _, upper_titles, titles, *_ = capsys.readouterr().out.splitlines()
    assert f"\n{upper_titles}\n{titles}\n" in README


def test_the_readmes_lines_classify_a_picture_of_ones_own(capsys):
    run("--epochs", 1, log_dir="runs/xavier")
    Image.new("RGB", (300, 400), "white").save("garment.png")
    capsys.readouterr()
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(lines, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed][8:] == ["Bag", "Ankle"]
    assert sum(float(line.split()[0]) for line in printed) == pytest.approx(1, abs=0.01)
