"""Which checkpoints are read, which are refused, and with what words. Plumbing, not the lesson."""

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import serialization

import train
from checkpoint import read_checkpoint
from conftest import Bomb, checkpoint, quick_run
from model import MLP


def test_a_checkpoint_has_the_documented_parts(plain_run):
    content = read_checkpoint(plain_run.directory / "checkpoint.pt")
    assert sorted(content) == ["history", "model", "optimizer", "scheduler", "settings"]
    assert content["history"] == plain_run.history


# Damaged


@pytest.fixture(scope="module")
def whole_file(data_dir, tmp_path_factory) -> bytes:
    """The 320 kB of a checkpoint."""
    log_dir = tmp_path_factory.mktemp("whole_file")
    quick_run("--epochs=1", log_dir=log_dir)
    return (log_dir / "checkpoint.pt").read_bytes()


def assert_damaged(file: Path, content: str) -> None:
    """Fail if read_checkpoint() does not call a file damaged."""
    try:
        read_checkpoint(file)
    except ValueError as error:
        assert str(error) == f"{file} is damaged or not a train.py checkpoint"
    else:
        pytest.fail(f"a checkpoint was read from {content}")


def test_a_checkpoint_cut_at_any_length_is_damaged(whole_file):
    file = Path("cut.pt")
    for length in 0, 1, 100, 5_000, 50_000, 200_000, len(whole_file) - 1:
        file.write_bytes(whole_file[:length])
        assert_damaged(file, f"the first {length} bytes of one")


def save_as_torch_once_did(content, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def save_as_pickle(content, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


def test_a_file_of_another_program_is_damaged():
    file = Path("foreign.pt")
    for content in b"hello\n", b"PK\x03\x04", bytes(5_000):
        file.write_bytes(content)
        assert_damaged(file, repr(content))
    for content in (3, [1], {}, {"state_dict": {}}, {"settings": 3, "history": []},
                    {"settings": {}, "history": 3}, {"settings": {}, "history": [3]}):
        for save in torch.save, save_as_torch_once_did, save_as_pickle:
            save(content, file)
            assert_damaged(file, f"{content}, {save}")


def test_a_hostile_checkpoint_is_damaged_and_runs_no_code():
    file = Path("hostile.pt")
    for content in Bomb(), {"settings": {}, "history": [], "model": Bomb()}:
        for save in torch.save, save_as_torch_once_did, save_as_pickle:
            save(content, file)
            assert_damaged(file, f"{content}, {save}")
            assert not Path("exploded").exists(), f"{content} was run, {save}"


def test_a_checkpoint_that_cannot_be_read_is_an_os_error():
    """It is not reported as damaged, because that would suggest training again."""
    Path("directory.pt").mkdir()
    for name in "directory.pt", "missing.pt":
        with pytest.raises(OSError, match=name):
            read_checkpoint(Path(name))


# Does not fit


def refusal(*flags) -> str:
    """Return the message with which run/checkpoint.pt is refused."""
    with pytest.raises(SystemExit) as end:
        quick_run("--epochs=1", "--resume", *flags)
    return end.value.code


def save_run(change) -> None:
    """Train one epoch, and let a function change what run/checkpoint.pt contains."""
    quick_run("--epochs=1")
    content = torch.load("run/checkpoint.pt", weights_only=True)
    change(content)
    torch.save(content, "run/checkpoint.pt")


def test_a_damaged_checkpoint_is_refused_with_a_message():
    Path("run").mkdir()
    torch.save({"state_dict": {}}, "run/checkpoint.pt")
    assert refusal() == ("train.py: error: run/checkpoint.pt is damaged or not a train.py "
                         "checkpoint; choose another --log-dir")


def test_a_checkpoint_that_lacks_a_part_does_not_fit():
    save_run(lambda content: content.pop("scheduler"))
    assert refusal() == ("train.py: error: run/checkpoint.pt does not fit: the network in model.py "
                         "or the optimizer in train.py is not the one that was saved; choose "
                         "another --log-dir")


def renamed_layer(*sizes) -> MLP:
    model = MLP(*sizes)
    model.last = model._modules.pop("output")
    return model


SGD = torch.optim.SGD
MOMENTUM = partial(SGD, momentum=0.9)


@pytest.mark.parametrize("module, name, saved, resumed", [
    pytest.param(train, "MLP", MLP, renamed_layer, id="another network"),
    pytest.param(torch.optim, "SGD", SGD, torch.optim.Adam, id="another optimizer"),
    pytest.param(torch.optim, "SGD", SGD, MOMENTUM, id="momentum added"),
    pytest.param(torch.optim, "SGD", MOMENTUM, SGD, id="momentum removed"),
])
def test_a_changed_network_or_optimizer_does_not_fit(module, name, saved, resumed, monkeypatch):
    monkeypatch.setattr(module, name, saved)
    quick_run("--epochs=1")
    monkeypatch.setattr(module, name, resumed)
    assert " does not fit: " in refusal()


# Older checkpoints, and those of a GPU


def of_third_edition(content: dict) -> None:
    del content["settings"]["examples"]


def of_torch_2_4(content: dict) -> None:
    content["scheduler"]["verbose"] = False
    content["scheduler"].pop("default_min_lr", None)
    for option in "maximize", "differentiable":  # as if they were newer options; they are off
        del content["optimizer"]["param_groups"][0][option]


@pytest.mark.parametrize("change", [of_third_edition, of_torch_2_4])
def test_an_older_checkpoint_resumes_to_the_same_bits(change):
    save_run(change)
    quick_run("--epochs=2", "--resume")
    quick_run("--epochs=2", log_dir="whole")
    resumed, whole = checkpoint("run"), checkpoint("whole")
    for part in "model", "optimizer", "settings", "history":  # scheduler still has "verbose"
        assert resumed[part] == whole[part], part


def test_an_older_run_had_the_default_of_a_newer_flag():
    save_run(of_third_edition)
    assert "--examples was 55000 but is now 100;" in refusal("--examples=100")


def test_a_setting_that_train_py_no_longer_has_is_refused():
    save_run(lambda content: content["settings"].update(gone_flag=0.9))
    assert "--gone-flag was 0.9 but is now None;" in refusal()


def test_a_checkpoint_from_a_gpu_loads_without_one(monkeypatch):
    with monkeypatch.context() as patch:
        # torch.save() writes into the file where its tensors are.
        patch.setattr(serialization, "location_tag", lambda storage: "cuda:99")
        quick_run("--epochs=1")
    assert b"cuda:99" in Path("run/checkpoint.pt").read_bytes(), "the set-up lacks a GPU"
    assert read_checkpoint("run/checkpoint.pt")["model"]["output.bias"].device.type == "cpu"
    assert len(quick_run("--epochs=1", "--resume")) == 1
