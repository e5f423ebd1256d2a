import re
import shlex

import train
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_training_command_is_understood():
    commands = re.findall(r"python train\.py([^`\n]*)", README)
    assert len(commands) > 8
    for command in {*commands} - {" --help"}:
        train.parse_args(shlex.split(command, comments=True))


def test_every_file_that_is_named_exists_and_has_the_lines_that_are_told():
    names = re.findall(r"(?:\]\(|`(?:\./)?)([\w./]+\.(?:py|sh|txt|md|png))[`)]", README)
    assert len(names) > 10 and [name for name in names if not (ROOT / name).exists()] == []
    for name, lines in re.findall(r"`(\w+\.py)` \((\d+)", README):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) == int(lines)
