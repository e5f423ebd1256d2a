"""Save a run and resume it. Plumbing: the one file that knows the format of checkpoint.pt.

checkpoint.pt holds a dictionary:
    model, optimizer, scheduler: their state_dict()s
    settings: {flag: value}, the flags that affect the results
    history: [{tag: value}, ...], the metrics of each epoch
"""

import io
import os
import sys
from pathlib import Path

import torch


def save_checkpoint(path: Path, parts: dict, settings: dict, history: list[dict]) -> None:
    """Save the state of the parts, {name: object with a state_dict()}, the settings, the history.

    The file is written beside the old one and then moved into its place, so that there is always a
    complete one, even if the process is killed. Raises OSError, for instance on a full disk.
    """
    content = {name: part.state_dict() for name, part in parts.items()}
    content["settings"] = settings
    content["history"] = history
    buffer = io.BytesIO()  # torch.save() to a file raises a RuntimeError if the disk is full
    torch.save(content, buffer)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(buffer.getbuffer())
    os.replace(unfinished, path)


def read_checkpoint(path: Path) -> dict:
    """Return the content of a checkpoint, as described above, with all tensors on the CPU.

    Raises OSError if the file cannot be read, and ValueError if it is not a train.py checkpoint.
    """
    content = Path(path).read_bytes()
    try:
        # A checkpoint is a pickle, and loading a pickle can run any code that somebody put into
        # it. weights_only allows nothing but tensors and plain values.
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        settings = {str(flag): value for flag, value in checkpoint["settings"].items()}
        history = [dict(metrics) for metrics in checkpoint["history"]]
        return checkpoint | {"settings": settings, "history": history}
    except Exception:  # a damaged file can fail in any way
        raise ValueError(f"{path} is damaged or not a train.py checkpoint") from None


def load_checkpoint(path: Path, parts: dict, settings: dict, defaults: dict) -> list[dict]:
    """Load a checkpoint into the parts and return its history.

    Exits with a message if the file is damaged, if a setting other than epochs differs from the
    saved one, or if the parts are not of the kind that was saved. Raises OSError if it cannot be
    read.
    """
    try:
        checkpoint = read_checkpoint(path)
    except ValueError as error:
        sys.exit(f"train.py: error: {error}; choose another --log-dir")
    changed = []
    # A flag added to train.py after the run was saved is taken to have had its default value.
    for flag, value in (defaults | checkpoint["settings"]).items():
        if flag != "epochs" and value != settings.get(flag):  # a run can be made longer
            name = flag.replace("_", "-")
            changed.append(f"--{name} was {value} but is now {settings.get(flag)}")
    if changed:
        sys.exit(f"train.py: error: {path}: {', '.join(changed)}; choose another --log-dir")
    try:
        fits = options(parts["optimizer"].state_dict()) == options(checkpoint["optimizer"])
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
    except Exception:  # a part is missing, or has different names or shapes
        fits = False
    if not fits:
        sys.exit(f"train.py: error: {path} does not fit: the network in model.py or the optimizer "
                 "in train.py is not the one that was saved; choose another --log-dir")
    return checkpoint["history"]


def options(optimizer_state: dict) -> list[dict]:
    """Return the options of an optimizer, such as momentum, for each group of parameters.

    The learning rate is left out, because it changes during training. So are options that are off,
    because another version of PyTorch may not have them.
    """
    return [{name: value for name, value in group.items()
             if value and name not in ("lr", "initial_lr", "params")}
            for group in optimizer_state["param_groups"]]
