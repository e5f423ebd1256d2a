from statistics import mean, stdev

import pytest
import torch

import results


def finished(number: float, epochs: int = 2, seed: int = 0, asked: int = 2) -> dict:
    """Return a checkpoint as train.py writes it, with numbers that tell its columns from others."""
    last = {column: number + i / 100 for i, column in enumerate(results.COLUMNS)} | {"loss/val": 7}
    settings = dict(sorted({"epochs": asked, "lr": 1, "seed": seed}.items(), reverse=number > 0.5))
    return {"settings": settings, "history": [{}] * (epochs - 1) + [last]}


def test_runs_that_differ_in_the_seed_share_a_row_and_what_is_no_finished_run_is_told(home, capsys):
    folder = home / "my [runs]"
    for name, content in {
            "../else/where": finished(0.0), "vanilla": finished(0.1), "reseed1": finished(0.2),
            "vanilla-seed70": finished(0.4, seed=70), "short": finished(0.3, epochs=1),
            "deep/er/vanilla": finished(0.9, seed=3, epochs=3),  # asked for 2 epochs, trained on
            "twice/vanilla-seed3": finished(1.6, seed=3), "x/vanilla": finished(2.5, 3, asked=3),
            "y/vanilla-seed1": finished(3, 3, seed=1, asked=3), "foreign": {"state_dict": {}},
            "list": [1], "object": finished(0.3) | {"object": range(1)}}.items():
        (folder / name).mkdir(parents=True)
        torch.save(content, folder / name / "checkpoint.pt")
    for link in "link", "same":  # found twice, counted once
        (folder / link).symlink_to(home / "else")
    with pytest.raises(SystemExit) as exit_info:
        results.main(["~/my [runs]"])
    expected = ["| run | seeds | loss/train | loss/train_clean | loss/test | accuracy/test "
                "| accuracy/mirrored |", "|---|---|---|---|---|---|---|"]
    for name, values in (("reseed1", [0.2]), ("vanilla", [0.1, 0.4, 0.9]), ("vanilla", [1.6]),
                         ("vanilla", [2.5, 3]), ("where", [0.0])):
        spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        cells = [f"{mean(values) + i / 100:.4f}{spread}" for i in range(5)]
        expected.append(f"| {name} | {len(values)} | {' | '.join(cells)} |")
    assert capsys.readouterr().out.splitlines() == expected
    lines = exit_info.value.code.splitlines()
    for name, line in zip(["foreign", "list", "object", "short"], lines, strict=True):
        assert line.startswith(f"results.py: error: {folder / name}/checkpoint.pt left out: ")
    assert "not finished, 1 of 2 epochs" in lines[-1]
    with pytest.raises(SystemExit, match="^results.py: error: there is no run in runs; train.py "):
        results.main([])
