import pickle
from statistics import mean, stdev

import pytest
import torch

import results
from test_train import Harmful

SETTINGS = {"init": "default", "augment": False, "epochs": 2, "lr": 0.2, "seed": 0}


def save(folder, number: float, epochs: int = 2, **settings) -> None:
    """Write a checkpoint as train.py does, with numbers that tell its columns from others."""
    folder.mkdir(parents=True)
    last = {column: number + i / 100 for i, column in enumerate(results.COLUMNS)} | {"loss/val": 7}
    history = [dict.fromkeys(last, 9.0)] * (epochs - 1) + [last]
    torch.save({"settings": SETTINGS | settings, "history": history}, folder / "checkpoint.pt")


def test_runs_that_differ_in_the_seed_alone_share_a_row_with_mean_and_sample_deviation(
        tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"  # the default
    for i, (folder, settings) in enumerate({
            "other/vanilla": {"lr": 0.1}, "vanilla": {}, "deep/er/vanilla-seed7": {"seed": 7},
            "seed2/vanilla": {"seed": 2}, "xx/vanilla-seed2": {"seed": 2},  # a second one of these
            "lr0.1-seed3": {"seed": 3}, "xavier": {"init": "xavier"}}.items()):
        save(runs / folder, i * i / 10, **settings)
    (runs / "link").symlink_to(runs / "deep")  # found twice, counted once
    results.main([])
    title, dashes, *rows = capsys.readouterr().out.splitlines()
    assert title == "| run | seeds | loss/train | loss/train_clean | loss/test | accuracy/test " \
                    "| accuracy/mirrored |"
    assert dashes == "|---|---|---|---|---|---|---|"
    expected = []
    for name, values in (("lr0.1", [2.5]), ("vanilla", [0.0]), ("vanilla", [0.1, 0.4, 0.9]),
                         ("vanilla", [1.6]), ("xavier", [3.6])):
        spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        cells = [f"{mean(values) + i / 100:.4f}{spread}" for i in range(5)]
        expected.append(f"| {name} | {len(values)} | {' | '.join(cells)} |")
    assert rows == expected


def test_links_are_followed_and_broken_and_unfinished_runs_named_beside_the_others(
        tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "elsewhere" / "good", 0.1)
    (tmp_path / "my [runs]").mkdir()
    (tmp_path / "my [runs]" / "link").symlink_to(tmp_path / "elsewhere")
    assert len(results.main(["~/my [runs]"])) == len(results.main([str(tmp_path / "elsewhere/good")])) == 1
    save(tmp_path / "longer", 0.2, epochs=3)  # asked for 2, but trained on
    save(tmp_path / "short", 0.3, epochs=1)
    for name, content in {"empty": b"", "text": b"hello", "pickle": pickle.dumps(Harmful(tmp_path / "x")),
                          "harmful": {"settings": Harmful(tmp_path / "x")}, "foreign": {"state_dict": {}},
                          "list": [1]}.items():
        path = tmp_path / name / "checkpoint.pt"
        path.parent.mkdir()
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        results.main([str(tmp_path)])
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]] == ["good", "longer"]
    names = "empty", "foreign", "harmful", "list", "pickle", "short", "text"
    for name, line in zip(names, exit_info.value.code.splitlines(), strict=True):
        assert line.startswith(f"results.py: error: {tmp_path / name / 'checkpoint.pt'} left out: ")
        assert ("not finished, 1 of 2 epochs" in line) == (name == "short")
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit, match="^results.py: error: there is no run in nowhere; train.py"):
        results.main(["nowhere"])
