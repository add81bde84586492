"""README.md: every command, link and message in it is one that exists; the help's examples likewise."""

import pathlib
import re
import shlex
from dataclasses import dataclass

import pytest
from helpers import ROOT

from resnet_nb import models, train
from resnet_nb.cli import COMMANDS, WELCOME, parser
from resnet_nb.recipes import SWEEPS

README = (ROOT / "README.md").read_text(encoding="utf-8")
HELP = "\n".join([WELCOME, *(command.examples for command in COMMANDS.values())])
# the last two as told there
SOURCES = ("shapes10", "cifar10", "cifar10-sample", "IMAGENET")


@dataclass
class Shown:
    """A command as it is shown to the reader, and as the parser understands it."""

    line: str

    def __post_init__(self):
        self.args = parser().parse_args(shlex.split(self.line))

    @property
    def folders(self):
        """The folders of the runs that it makes."""
        out = str(getattr(self.args, "out", ""))
        return [f"{out}/{job.folder}" for job in SWEEPS[self.args.name]] if self.args.command == "sweep" else [out]


def shown(text):
    """Every command with arguments in code blocks and in code; a comment may follow."""
    return [Shown(line) for line in re.findall(r"-m resnet_nb +(\w[^`#\n]*)", text) if "--help" not in line]


ALL = shown(HELP) + shown(README)


def test_nothing_waits_to_be_filled_in():
    assert not re.findall(r"@[A-Z0-9]+@|TODO|FIXME", README)


def test_the_commands_are_found():
    """What follows would pass on none."""
    assert {command.args.command for command in shown(HELP)} == COMMANDS.keys()
    assert len(shown(README)) >= 15


@pytest.mark.parametrize("name", sorted({command.args.name for command in ALL if hasattr(command.args, "name")}))
def test_networks_recipes_and_sweeps_that_are_shown_exist(name):
    commands = [command.args for command in ALL if getattr(command.args, "name", None) == name]
    assert {args.command == "sweep" for args in commands} == {name in SWEEPS}
    for overrides in {str(dict(getattr(args, "set", []))): dict(getattr(args, "set", [])) for args in commands}.values():
        assert name in SWEEPS or models.build(name, **overrides)
    for args in commands:
        assert not hasattr(args, "recipe") or train.recipe_for(args.recipe, name, args.iterations)


def test_data_that_are_shown_can_be_had():
    assert {command.args.data for command in ALL if getattr(command.args, "data", None)} == set(SOURCES)


def test_runs_that_are_shown_come_from_a_command_that_is_shown():
    made = {folder for command in ALL for folder in command.folders}
    for args in (command.args for command in ALL):
        if args.command == "record":
            assert str(args.run_folder) in made
        elif args.command == "evaluate":
            assert args.what in made or args.what in models.weights.NAMES or args.what == "resnet20.th"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", README))
    assert {"lab", "test", "slides", "site", "browser", "address"} <= named
    assert named <= set(re.findall(r"(?m)^([a-z-]+):.*## ", makefile))


def anchor(heading):
    """The address that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere():
    anchors = {anchor(heading) for heading in re.findall(r"(?m)^#+ (.+)$", README)}
    targets = re.findall(r"\]\(([^)\s]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    assert len(targets) > 30
    for target in (target for target in targets if not target.startswith("https://")):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / target).is_file(), target


def test_pictures_have_an_alternative_text():
    pictures = re.findall(r"<img [^>]+>", README)
    assert pictures and all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)
    used = {pathlib.Path(name).name for name in re.findall(r'src="([^"]+)"', README)}
    assert used == {path.name for path in (ROOT / "notebooks" / "images").glob("*.png")}


def test_messages_that_are_quoted_are_those_of_the_package():
    """… in a quotation stands for what differs."""
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "resnet_nb").rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message may be cut into lines
    values = {"torch 2.6": "torch {OLDEST_TORCH}", "'cuda'": "{name!r}"}
    quoted = re.findall(r"`(?:error|ImportError): ([^`]+)`", README) + re.findall(r"`(… is damaged[^`]*)`", README)
    assert len(quoted) >= 5
    for message in quoted:
        for shown_as, written in values.items():
            message = message.replace(shown_as, written)
        assert re.search(".*".join(re.escape(part.strip()) for part in message.split("…")), code), message
