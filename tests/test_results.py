from pathlib import Path
from statistics import mean, stdev

import pytest
import torch

import results
from conftest import Harmful

SETTINGS = {"init": "default", "augment": False, "epochs": 2, "lr": 0.2, "seed": 0}


def save(folder: str, number: float, epochs: int = 2, **settings) -> None:
    """Write a checkpoint as train.py does, with numbers that tell its columns from others."""
    last = {column: number + i / 100 for i, column in enumerate(results.COLUMNS)} | {"loss/val": 7}
    history = [dict.fromkeys(last, 9.0)] * (epochs - 1) + [last]
    Path(folder).mkdir(parents=True)
    settings = dict(sorted((SETTINGS | settings).items(), reverse=number > 0.5))  # in any order
    content = {"settings": settings, "history": history}
    torch.save(content, Path(folder, "checkpoint.pt"))


def test_runs_that_differ_in_the_seed_alone_share_a_row_with_mean_and_sample_deviation(capsys):
    for i, (folder, settings) in enumerate({
            "other/vanilla": {"lr": 0.1}, "vanilla": {}, "deep/er/vanilla-seed7": {"seed": 7},
            "seed2/vanilla": {"seed": 2}, "xx/vanilla-seed2": {"seed": 2},  # a second one of these
            "lr0.1-seed3": {"seed": 3}, "reseed1": {"init": "xavier"},
            "lr0.1-seed4": {"seed": 4}}.items()):
        save(f"runs/{folder}", i * i / 10, **settings)  # runs: the default
    save("outside", 5)
    Path("runs/link").symlink_to("deep")  # found twice, counted once
    results.main([])
    expected = ["| run | seeds | loss/train | loss/train_clean | loss/test | accuracy/test "
                "| accuracy/mirrored |", "|---|---|---|---|---|---|---|"]
    for name, values in (("lr0.1", [2.5, 4.9]), ("reseed1", [3.6]), ("vanilla", [0.0]),
                         ("vanilla", [0.1, 0.4, 0.9]), ("vanilla", [1.6])):
        spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        cells = [f"{mean(values) + i / 100:.4f}{spread}" for i in range(5)]
        expected.append(f"| {name} | {len(values)} | {' | '.join(cells)} |")
    assert capsys.readouterr().out.splitlines() == expected


def test_links_are_followed_and_hostile_and_unfinished_runs_named_beside_the_others(home, capsys):
    save("elsewhere/good", 0.1)
    Path("my [runs]").mkdir()
    Path("my [runs]/link").symlink_to(home / "elsewhere")
    assert len(results.main(["~/my [runs]"])) == 1
    save("longer", 0.2, epochs=3)  # asked for 2, but trained on
    for name in "foreign", "harmful", "list", "text":
        Path(name).mkdir()
    torch.save({"state_dict": {}}, "foreign/checkpoint.pt")
    torch.save({"settings": Harmful()}, "harmful/checkpoint.pt")
    torch.save([1], "list/checkpoint.pt")
    save("short", 0.3, epochs=1)
    Path("text/checkpoint.pt").write_text("hello")
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        results.main(["."])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[1] for row in rows] == ["good", "longer"]
    lines = exit_info.value.code.splitlines()
    for name, line in zip(["foreign", "harmful", "list", "short", "text"], lines, strict=True):
        assert line.startswith(f"results.py: error: {home}/{name}/checkpoint.pt left out: ")
    assert "not finished, 1 of 2 epochs" in lines[3] and not Path("harm").exists()
    with pytest.raises(SystemExit, match="^results.py: error: there is no run in no; train.py "):
        results.main(["no"])
