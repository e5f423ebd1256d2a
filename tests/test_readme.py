"""What README.md and docs/exercises.md show is what the programs do. Plumbing."""

import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

import data
import download
import log
import results
import train
from checkpoint import read_checkpoint
from conftest import CONTENTS, EXPERIMENTS, README, ROOT, logged, make_script, quick_run, run
from model import MLP

EXERCISES = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
TEXTS = README + EXERCISES
ONE_LINE = " ".join(README.split())  # however its lines are wrapped
BASH = [block.replace("\n   ", "\n") for block in re.findall(r"```bash\n(.*?)```", TEXTS, re.S)]
PYTHON = [re.sub(r"(?m)^    ", "", block) if block.startswith("    ") else block
          for block in re.findall(r"```python\n(.*?)```", TEXTS, re.S)]


def table(titles: str) -> dict[str, list[str]]:
    """Return {first cell: cells} of the README's table whose titles begin like this."""
    lines = README[README.index(titles):].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows}


def program(word: str) -> str:
    """Return the only Python program that contains a word."""
    (found,) = [block for block in PYTHON if word in block]
    return found


# The commands


def calls_of_shell_blocks(names=("python", "experiments.sh")) -> list[list[str]]:
    """Run the bash blocks with programs that only note how they are called; return the calls."""
    note = '#!/bin/sh\nfor word in "$(basename "$0")" "RUNS=$RUNS" "$@"; do echo "$word"; done' \
           ' > "$(mktemp "$NOTES/XXXXXX")"\n'
    Path("notes").mkdir()
    for name in ("python", "python3", "tensorboard", "source", "git", ".venv/bin/pip"):
        make_script(Path("bin", name) if "/" not in name else Path(name), note)
    make_script(Path("experiments.sh"), note)
    environment = os.environ | {"PATH": f"{Path.cwd() / 'bin'}:{os.environ['PATH']}",
                                "NOTES": str(Path.cwd() / "notes")}
    environment.pop("RUNS", None)
    for block in BASH:
        subprocess.run(["sh", "-euc", block], env=environment, check=True, timeout=60)
    calls = [path.read_text().splitlines() for path in Path("notes").iterdir()]
    return [call for call in calls if call[0] in names]


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> list[list[str]]:
    """The calls of Python and experiments.sh in all shell blocks: [name, RUNS=..., arguments]."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("blocks"))
        return calls_of_shell_blocks()


def settings(flags: list[str]) -> dict:
    """Return the settings and the directory of a command of train.py."""
    args = train.parse_args(flags)
    return train.settings_of(args) | {"log_dir": args.log_dir}


def test_train_py_understands_every_command_in_the_texts(calls):
    commands = [call[3:] for call in calls if "train.py" in call]
    assert len(commands) >= 37, "the shell blocks were not run"
    for text in re.findall(r"`python train\.py([^`…]*)`", TEXTS):
        text = re.sub("--init (equal|mine)", "--init zero", text)  # modes that exercises add
        if text != " --help":
            commands.append(shlex.split(text))
    for command in commands:
        settings(command)  # exits if it does not understand


def test_the_ten_seeds_go_into_ten_directories(calls):
    found = sorted(call[1:] for call in calls if call[0] == "experiments.sh" and call[2:])
    assert found == [[f"RUNS=seeds/{seed}", "--seed", str(seed)] for seed in range(10)]


def test_every_reference_of_against_is_among_the_runs_before_it(calls):
    names = {re.sub(r"-seed\d+$", "", settings(call[3:])["log_dir"].name)
             for call in calls if "train.py" in call} | EXPERIMENTS.keys()
    references = set(re.findall(r"--against (\w+)", TEXTS))
    assert references
    assert references - names == set(), "no command trains these"


def test_the_readme_and_train_py_have_the_five_commands():
    for name, flags in EXPERIMENTS.items():
        command = " ".join(["python train.py", *flags])
        assert f"**`{command}`**" in README, f"README: {name}"
        assert re.search(rf"^    {re.escape(command)} +# 0", train.__doc__, re.M), f"train: {name}"


def test_a_run_of_your_own_goes_where_the_readme_says():
    flags, directory = re.search(r"A run of your own, `python train\.py (.*?)`, is saved in "
                                 r"`(.*?)`", ONE_LINE).groups()
    assert settings(flags.split())["log_dir"] == Path(directory)


def test_the_readmes_longer_run_has_the_settings_of_its_experiment():
    (flags,) = re.findall(r"`python train\.py (.*--resume.*?)`", README)
    longer = settings(flags.split())
    shorter = settings(EXPERIMENTS[longer["log_dir"].name])
    assert longer | {"epochs": 20} == shorter


def test_every_linked_file_exists():
    links = set(re.findall(r"\]\(([\w./]+)\)", TEXTS))
    assert [link for link in links if not (ROOT / link).exists()] == []


# The programs


@pytest.fixture
def two_runs() -> None:
    """The two runs that the programs look at, of one epoch each."""
    quick_run("--epochs", 1, "--hidden", 8, "--lr", 0.02, log_dir="runs/xavier")
    quick_run("--epochs", 1, "--augment", "--dropout", 0.5, log_dir="runs/xavier-augment")


def run_program(text: str) -> None:
    """Run a program of the texts as a script of its own."""
    exec(compile(text, "README.md", "exec"), {})


def own_answers(run: str, image: torch.Tensor) -> list[str]:
    """Return by hand what look.py should print about an image, float32 (28, 28)."""
    saved = read_checkpoint(Path("runs", run, "checkpoint.pt"))
    model = MLP(saved["settings"]["hidden"])
    model.load_state_dict(saved["model"])
    probabilities = model.eval()(image.unsqueeze(0)).softmax(dim=1)[0].tolist()
    return [f"{run:15} {p:.2f} {name}" for p, name in zip(probabilities, data.CLASSES)]


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "P"])
def test_look_py_takes_a_picture_of_any_kind(kind, two_runs, capsys):
    """A grey of 102 on white: inverted 153 of 255, a pixel of 0.6."""
    capsys.readouterr()
    Image.new("L", (300, 300), 102).convert(kind).save("garment.png")
    run_program(program("garment.png"))
    grey = torch.full((28, 28), 0.6)
    expected = own_answers("xavier", grey) + own_answers("xavier-augment", grey)
    assert capsys.readouterr().out.splitlines() == expected


def test_look_py_takes_transparent_pixels_for_background(two_runs, capsys):
    capsys.readouterr()
    Image.new("RGBA", (300, 300), (0, 0, 0, 0)).save("garment.png")
    run_program(program("garment.png"))
    assert capsys.readouterr().out.splitlines()[:10] == own_answers("xavier", torch.zeros(28, 28))


def test_boot_py_shows_how_many_boots_each_network_recognises(monkeypatch, capsys):
    for name in "xavier", "xavier-augment":
        quick_run("--epochs", 1, log_dir=f"runs/{name}")
    capsys.readouterr()
    monkeypatch.setattr(data, "find_dataset", Mock(return_value=CONTENTS))
    run_program(program("Ankle boot"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" recognised ")[0].split() for line in lines] == [
        [name, "boots", *way.split()] for name in ("xavier", "xavier-augment")
        for way in ("as they are", "flipped")]


def test_the_history_can_be_drawn_as_the_readme_says(two_runs, monkeypatch):
    pandas = types.SimpleNamespace(DataFrame=lambda history: {
        "history": history, **dict.fromkeys(["loss"], None)})
    frame = Mock()
    pandas.DataFrame = Mock(return_value=frame)
    frame.__getitem__ = Mock(return_value=frame)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    run_program(program("pandas"))
    (history,), _ = pandas.DataFrame.call_args
    columns = frame.__getitem__.call_args.args[-1]
    assert len(history) == 1
    assert set(columns) <= set(history[0])


def test_the_line_of_an_exercise_counts_different_units(capsys):
    (line,) = re.findall('python -c "(from checkpoint .*)"`', EXERCISES)
    for init, number in ("default", 7), ("zero", 1):
        quick_run("--epochs", 1, "--hidden", 7, "--init", init, "--resume",
                  log_dir="exercises/equal")
        capsys.readouterr()
        run_program(line)
        assert capsys.readouterr().out == f"{number}\n", init
        Path("exercises/equal/checkpoint.pt").unlink()


# What is printed, and the numbers


def test_the_readme_shows_the_output_of_a_run(capsys):
    run("--epochs", 1)
    _, upper_titles, titles, epoch, *_ = capsys.readouterr().out.splitlines()
    (shown,) = re.findall(f"\n{upper_titles}\n{titles}\n(.*)\n", README)
    assert re.sub(r"\d", "0", shown) == re.sub(r"\d", "0", epoch)


def test_the_readme_states_the_settings_that_are_fixed():
    args = train.parse_args([])
    for words in (f"a learning rate of {args.lr} and batches of {args.batch_size}",
                  f"{args.examples:,} images for training", f"(`--patience {args.patience}`)"):
        assert words in ONE_LINE, words


def test_the_readme_names_the_directory_for_files_saved_by_hand():
    raw = download.DEFAULT_DATA_DIR / "FashionMNIST" / "raw"
    assert f"`{raw.relative_to(ROOT)}`" in README


def test_the_readmes_gap_is_val_minus_clean():
    for name, cells in table("| run | train | clean |").items():
        _, _, clean, val, _, gap, *_ = cells
        assert float(gap) == pytest.approx(float(val) - float(clean), abs=0.011), name


def test_the_readmes_two_tables_of_the_five_runs_agree():
    means, puzzle = table("| run | train | clean |"), table("| run | study: train loss |")
    for name in EXPERIMENTS:
        _, train_loss, *_, mirrored = means[name]
        assert float(train_loss) == pytest.approx(float(puzzle[name][1]), abs=0.035), name
        assert mirrored == puzzle[name][3], f"{name}, mirrored"
        assert float(mirrored) == pytest.approx(float(puzzle[name][2]), abs=0.03), name


def test_the_readme_states_the_rule_of_results_py():
    for seeds, words in (10, "with ten seeds"), (5, "with five"), (3, "with three"):
        limit = f"{results.luck_limit(seeds):.2f}"
        assert f"{limit} {words}" in ONE_LINE or f"{limit} times its ± {words}" in ONE_LINE, words


def test_the_table_in_log_py_has_every_tag():
    run("--epochs", 1, "--hidden", 5, "--lr", 1e-4)  # which leaves mistakes to show
    kinds = {re.split("[/ ]", tag)[0] for tag in logged()} - {"_hparams_"}
    assert kinds - set(re.findall(r"\w+", log.__doc__)) == set(), "the docstring lacks these"
