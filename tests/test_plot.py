"""Figures say in words what they show, and the drawings follow the modules."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from resnet_nb import plot
from resnet_nb.detection import figures as detection
from resnet_nb.models import BasicBlock, build
from resnet_nb.models.butcher import tableau
from resnet_nb.models.preact import PLACEMENTS, Unit, unit_convs
from resnet_nb.paper import facts
from resnet_nb.plot.diagrams import draw_block, draw_unit, draw_wiring

LOG = [{"iteration": 10, "train_error": 60.0, "test_error": 65.0}, {"iteration": 20, "train_error": 30.04, "test_error": 41.0}]


def words(axis):
    return " ".join(text.get_text() for text in axis.texts)


def drawn(block):
    figure, axis = plt.subplots()
    draw_block(axis, block)
    plt.close(figure)
    return axis


@pytest.mark.parametrize(
    "option, inputs, stride, label",
    [
        ("A", 8, 1, "identity"),
        ("B", 8, 1, "identity"),
        ("A", 4, 2, "zeros"),
        ("B", 4, 2, "projection"),
        ("C", 8, 1, "projection"),
    ],
)
def test_a_block_names_its_shortcut(option, inputs, stride, label):
    text = words(drawn(BasicBlock(inputs, 8, stride, option, "3x3")))
    assert label in text and "F(x)" in text and "+" in text
    assert sum(other in text for other in ("identity", "zeros", "projection")) == 1


def test_a_plain_block_has_no_shortcut():
    text = words(drawn(BasicBlock(8, 8, 1, None, "3x3")))
    assert "H(x)" in text
    assert not any(other in text for other in ("+", "identity", "zeros", "projection", "F(x)"))


def drawn_unit(placement, shortcut="A", inputs=8, **constants):
    figure, axis = plt.subplots()
    draw_unit(axis, Unit(unit_convs(inputs, 8, 1, False), placement, shortcut, **constants))
    plt.close(figure)
    return axis


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_unit_is_drawn_layer_by_layer(placement):
    axis = drawn_unit(placement)
    by_height = sorted(axis.texts, key=lambda text: -text.get_position()[1])
    words = [text.get_text() for text in by_height if text.get_text() in ("conv", "BN", "ReLU", "+")]
    key = PLACEMENTS[placement].lower().replace("pre-", "pre").replace(" ", "_").replace("-", "_")
    inside, after = facts("preact-units")[key].split(" | add")
    assert words == [*inside.split(), "+", *after.replace(",", "").split()]
    bold = max(line.get_linewidth() for line in axis.lines) > 2
    assert bold == (placement in "cde")  # nothing stands on the path from unit to unit


@pytest.mark.parametrize(
    "shortcut, constants, words",
    [
        ("scaling", {"on_shortcut": 0.5, "on_residual": 0.25}, ["× 0.5", "× 0.25"]),
        ("gating", {"gate_bias": 0}, ["1 − g(x)"]),
        ("exclusive-gating", {"gate_bias": 0}, ["1 − g(x)", "× g(x)"]),
        ("dropout", {}, ["dropout"]),
        ("C", {}, ["1×1 conv"]),
    ],
)
def test_what_stands_on_the_shortcut_is_written_there(shortcut, constants, words):
    axis = drawn_unit("c", shortcut, **constants)
    shown = [text.get_text() for text in axis.texts]
    assert sorted(text for text in shown if "×" in text or "g(x)" in text or text == "dropout") == sorted(words)
    assert max(line.get_linewidth() for line in axis.lines) <= 2


def test_a_wiring_has_an_arrow_for_every_coefficient():
    for name, labels in (("midpoint", ["1/2", "1"]), ("rk4", ["1/2", "1/2", "1", "1/6", "1/3", "1/3", "1/6"]), ("rk8", [])):
        figure, axis = plt.subplots()
        draw_wiring(axis, tableau(name))
        plt.close(figure)
        method = tableau(name)
        count = sum(bool(value) for row in (*method.a, method.b) for value in row)
        boxes, straight = method.stages, method.stages + 2  # x into every stage and the result, and the result's own
        assert len(axis.patches) == count + boxes + straight
        written = [text.get_text() for text in axis.texts]
        assert [text for text in written if text in ("1", "1/2", "1/3", "1/6")] == labels


def test_figures_carry_their_numbers():
    assert "a 30.0" in plot.curves({"a": LOG}, {"train_error": "training"}, "Words.").alt
    assert "a 30.0 and 41.0" in plot.train_test({"left": {"a": LOG}}, "Words.").alt
    assert "row x 1.50" in plot.bars({"row": {"x": 1.5}}, "unit", "Words.", digits=2).alt


def test_a_figure_is_a_small_png_with_its_alt_text():
    figure = plot.lines({"a": [1, 2, 3]}, "x", "y", "Three points.")
    data, metadata = figure._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == "Three points."
    assert Image.open(io.BytesIO(figure.png)).width > 300
    assert figure.png == plot.lines({"a": [1, 2, 3]}, "x", "y", "Three points.").png


@pytest.fixture
def shown(monkeypatch):
    """The matplotlib figures that were turned into pictures."""
    figures = []
    picture = plot.figure._png
    monkeypatch.setattr(plot.figure, "_png", lambda figure: figures.append(figure) or picture(figure))
    return figures


def test_training_is_dashed_and_test_is_bold(shown):
    plot.train_test({"left": {"a": LOG}, "right": {"b": LOG}}, "Words.")
    left, right = shown[0].axes
    test, train = left.lines
    assert (test.get_linestyle(), train.get_linestyle()) == ("-", "--")
    assert test.get_linewidth() > train.get_linewidth()
    assert list(test.get_ydata()) == [65.0, 41.0] and list(train.get_ydata()) == [60.0, 30.04]
    assert left.get_ylim() == right.get_ylim()


FOUR = ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.curves(dict.fromkeys(FOUR, LOG), {"train_error": "training"}, "Words."),
        lambda: plot.train_test({"panel": dict.fromkeys(FOUR, LOG)}, "Words."),
        lambda: plot.lines({name: [1, 2] for name in FOUR}, "x", "y", "Words."),
        lambda: detection.precision_recall({name: (np.array([1, 0.5]), np.array([0.5, 1])) for name in FOUR}, "Words."),
    ],
    ids=["curves", "train_test", "lines", "precision_recall"],
)
def test_lines_differ_by_more_than_color(shown, draw):
    draw()
    looks = [(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in shown[0].axes[0].lines]
    assert len(set(looks)) == len(looks) >= len(FOUR)


TWELVE = [f"series {i}" for i in range(12)]  # there are ten colors
PIXELS = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.curves(dict.fromkeys(TWELVE, LOG), {"train_error": "training"}, "Words."),
        lambda: plot.train_test({"panel": dict.fromkeys(TWELVE, LOG)}, "Words."),
        lambda: plot.lines({name: [1, 2] for name in TWELVE}, "x", "y", "Words."),
        lambda: detection.precision_recall({name: (np.array([1, 0.5]), np.array([0.5, 1])) for name in TWELVE}, "Words."),
        lambda: plot.bars({"label": dict.fromkeys(TWELVE, 1.0)}, "unit", "Words."),
        lambda: detection.gains({"label": dict.fromkeys(TWELVE, 1.0)}, "unit", "Words."),
    ],
    ids=["curves", "train_test", "lines", "precision_recall", "bars", "gains"],
)
def test_twelve_series_differ(shown, draw):
    draw()
    axis = shown[0].axes[0]
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in axis.lines]
    looks += [(bar.get_facecolor(), bar.get_hatch()) for bars in axis.containers for bar in bars]
    looks = [look for look in looks if look[0] != "0.25"]  # the zero line of the gains
    assert len(set(looks)) == len(looks) >= 12
    assert [text.get_text() for text in axis.get_legend().get_texts()] == TWELVE


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot.train_test({name: {"a": LOG} for name in TWELVE}, "Words."),
        lambda: plot.bars({name: {"a": 1.0} for name in TWELVE}, "unit", "Words."),
        lambda: plot.grids({name: torch.eye(2) for name in TWELVE}, "Words."),
        lambda: plot.images(dict.fromkeys(TWELVE, PIXELS), "Words."),
        lambda: plot.heat_maps(PIXELS, {name: torch.eye(8)[None] for name in TWELVE}, torch.eye(8).bool()[None], "Words."),
        lambda: plot.blocks({name: BasicBlock(8, 8, 1, "B", "3x3") for name in TWELVE}, "Words."),
        lambda: plot.networks({name: build("cifar-resnet8") for name in TWELVE}, "Words.", 32),
        lambda: plot.units({name: Unit(unit_convs(4, 4, 1, False), "e", "A") for name in TWELVE}, "Words."),
        lambda: plot.wirings({name: tableau("euler") for name in TWELVE}, "Words."),
        lambda: detection.overlaps((0, 0, 4, 4), dict.fromkeys(TWELVE, (2, 2, 6, 6)), "Words."),
    ],
    ids="train_test bars grids images heat_maps blocks networks units wirings overlaps".split(),
)
def test_twelve_panels_or_rows_are_drawn(monkeypatch, draw):
    figures, named = [], set()
    monkeypatch.setattr(plot.figure, "_png", lambda figure: figures.append(figure) or b"")  # the slow part
    draw()
    for axis in figures[0].axes:
        named |= {axis.get_title(), axis.get_title("left"), *(text.get_text() for text in axis.texts + axis.get_yticklabels())}
    assert named >= set(TWELVE)


@pytest.mark.parametrize("draw", [plot.bars, detection.gains])
def test_bars_differ_by_more_than_color(shown, draw):
    draw({"label": dict.fromkeys(FOUR, 1.0)}, "unit", "Words.")
    hatches = [bar.get_hatch() for bars in shown[0].axes[0].containers for bar in bars]
    assert len(set(hatches)) == len(hatches) == len(FOUR)


def test_boxes_differ_by_more_than_color(shown):
    detection.overlaps((0, 0, 4, 4), {"IoU": (2, 2, 6, 6)}, "Words.")
    found = {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    detection.scenes(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [found], ["a"], "Words.", [found])
    (_, box, other), (true, ground, predicted) = (figure.axes[0].patches for figure in shown)
    assert [box.get_linestyle(), other.get_linestyle()] == ["-", "--"]
    assert [true.get_linestyle(), predicted.get_linestyle()] == ["-", "--"]
    assert to_hex(ground.get_edgecolor()) == "#000000"  # the dashes stand on black, whatever the image


def test_heat_is_lighter_the_higher_it_is(shown):
    image, heat = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.arange(64.0).reshape(1, 8, 8)
    plot.heat_maps(image, {"heat": heat}, torch.eye(8).bool()[None], "Words.")
    colors = shown[0].axes[1].images[0].cmap(np.linspace(0, 1, 100))
    lightness = colors[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all() and np.ptp(lightness) > 0.5


def test_lines_start_at_one_unless_told(shown):
    plot.lines({"a": [5, 6], "b": {0.5: 7, 3: 8}}, "x", "y", "Words.", log=True, top=7.5)
    (axis,) = shown[0].axes
    assert [list(line.get_xdata()) for line in axis.lines] == [[1, 2], [0.5, 3]]
    assert axis.get_yscale() == "log" and axis.get_ylim()[1] == 7.5
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]
    looks = {(line.get_linestyle(), line.get_marker()) for line in axis.lines}
    assert len(looks) == 2  # readable without colour


def test_an_error_leaves_no_figure_open():
    before = plt.get_fignums()
    with pytest.raises(KeyError):
        plot.curves({"a": LOG}, {"no such column": "title"}, "Words.")
    with pytest.raises(AttributeError):
        plot.blocks({"no block": torch.nn.Conv2d(3, 3, 1)}, "Words.")
    assert plt.get_fignums() == before


def test_grids_write_every_number(shown):
    plot.grids({"one": torch.tensor([[1.0, -2.5]]), "two": torch.eye(2)}, "Words.")
    numbers = re.findall(r"-?[\d.]+", " ".join(words(axis) for axis in shown[0].axes))
    assert numbers == ["1.0", "-2.5", "1.0", "0.0", "0.0", "1.0"]


def test_a_logarithmic_x_axis_has_a_tick_at_every_value(shown):
    plot.lines({"a": {4: 1.0, 8: 0.1}, "b": {8: 1.0, 16: 0.2}}, "steps", "error", "Two lines.", log=True, log_x=True)
    axis = shown[0].axes[0]
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["4", "8", "16"]


def test_units_and_wirings_have_a_panel_each(shown):
    plot.units({"one": Unit(unit_convs(4, 4, 1, False), "e", "A"), "two": Unit(unit_convs(4, 4, 1, True), "a", "B")}, "Units.")
    plot.wirings({"RK4": tableau("rk4"), "RK8": tableau("rk8")}, "Wirings.")
    assert [[axis.get_title() or axis.get_title("left") for axis in figure.axes] for figure in shown] == [
        ["one", "two"],
        ["RK4", "RK8"],
    ]
