"""Figures say in words what they show, and the drawings follow the modules."""

import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from PIL import Image

from resnet_nb import plot
from resnet_nb.anatomy import describe
from resnet_nb.detection import figures as detection
from resnet_nb.models import BasicBlock, Bottleneck, build
from resnet_nb.models.butcher import tableau
from resnet_nb.models.preact import PLACEMENTS, Unit, unit_convs
from resnet_nb.paper import facts
from resnet_nb.plot.pen import Pen
from resnet_nb.plot.residual import draw_block
from resnet_nb.plot.routes import draw_wiring
from resnet_nb.plot.unit import draw_unit

LOG = [{"iteration": 10, "train_error": 60.0, "test_error": 65.0}, {"iteration": 20, "train_error": 30.04, "test_error": 41.0}]


def words(axis):
    return " ".join(text.get_text() for text in axis.texts)


def drawn(draw, *things, **options):
    """The axis on which a pen has drawn, and what was said of it."""
    figure, axis = plt.subplots()
    said = draw(Pen(axis), *things, **options)
    plt.close(figure)
    return axis, said


def named(axis, *labels):
    """The shapes that are called so, from top to bottom."""
    found = [patch for patch in axis.patches if patch.get_label() in labels]
    return sorted(
        found, key=lambda patch: patch.get_path().vertices[:, 1].min() if not patch.get_label() == "+" else patch.center[1]
    )


def widths(polygon):
    """Of its upper and of its lower edge."""
    corners = polygon.get_xy()
    return [float(np.ptp(corners[corners[:, 1] == y][:, 0])) for y in (corners[:, 1].min(), corners[:, 1].max())]


def accented(axis):
    return [patch for patch in axis.patches if to_hex(patch.get_edgecolor()) == plot.figure.ACCENT]


SHORTCUTS = ("identity", "zeros", "projection")


@pytest.mark.parametrize(
    "option, inputs, stride, label, written, words_",
    [
        ("A", 8, 1, "identity", "identity", "identity shortcut"),
        ("B", 8, 1, "identity", "identity", "identity shortcut"),
        ("A", 4, 2, "zeros", "zero padding", "zero-padded shortcut (every 2nd pixel, 4 zero channels)"),
        ("B", 4, 2, "projection", "projection", "projection shortcut (1×1, 8, stride 2; BN)"),
        ("C", 8, 1, "projection", "projection", "projection shortcut (1×1, 8; BN)"),
    ],
)
def test_a_block_names_its_shortcut(option, inputs, stride, label, written, words_):
    axis, said = drawn(draw_block, BasicBlock(inputs, 8, stride, option, "3x3"))
    assert written in words(axis) and r"\mathcal{F}" in words(axis) and len(named(axis, "+")) == 1
    first = "3×3, 8, stride 2" if stride > 1 else "3×3, 8"
    assert said == [first, "BN", "ReLU", "3×3, 8", "BN", f"plus {words_}", "ReLU"]
    ways = named(axis, *SHORTCUTS)
    assert {way.get_label() for way in ways} == {label}
    for way in ways:
        assert to_hex(way.get_edgecolor()) == plot.figure.ACCENT and way.get_linewidth() > 2
        assert (way.get_linestyle() in ("-", "solid")) == (inputs == 8)  # dotted where the shape changes


def test_a_plain_block_has_no_shortcut():
    axis, said = drawn(draw_block, BasicBlock(8, 8, 1, None, "3x3"))
    assert r"\mathcal{H}" in words(axis) and r"\mathcal{F}" not in words(axis)
    assert not named(axis, "+", *SHORTCUTS) and not accented(axis)
    assert said == ["3×3, 8", "BN", "ReLU", "3×3, 8", "BN", "ReLU"]


def test_a_block_is_as_wide_as_it_has_channels():
    block = Bottleneck(256, 64, 1, "B")
    axis, _ = drawn(draw_block, block)
    layers = named(axis, "1×1, 64", "3×3, 64", "1×1, 256", "BN", "ReLU")
    assert " ".join(layer.get_label() for layer in layers) == "1×1, 64 BN ReLU 3×3, 64 BN ReLU 1×1, 256 BN ReLU"
    channels = [(256, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 64), (64, 256), (256, 256), (256, 256)]
    inches = [width / count for layer, pair in zip(layers, channels) for width, count in zip(widths(layer), pair)]
    assert np.allclose(inches, inches[0])


def test_padded_zeros_are_hatched_to_scale():
    axis, _ = drawn(draw_block, BasicBlock(4, 12, 2, "A", "3x3"))
    values, zeros = named(axis, "4 channels", "8 zeros")
    assert (values.get_hatch(), zeros.get_hatch()) == (None, "////")
    assert widths(zeros)[0] == pytest.approx(2 * widths(values)[0])


def test_small_vectors_flow_through_a_block(shown):
    plot.blocks({"one": BasicBlock(3, 3, 1, "A")}, "Words.", numbers={"one": ([1, 2, 3], [0, 0.5, -1], [1, 2.5, 2])})
    cells = sorted(t.get_position()[::-1] for t in shown[0].axes[0].texts if re.fullmatch(r"−?[\d.]+", t.get_text()))
    by_place = {t.get_position()[::-1]: t.get_text() for t in shown[0].axes[0].texts}
    assert [by_place[cell] for cell in cells] == "1 2 3 1 2 3 0 0.5 −1 1 2.5 2".split()  # x also on the shortcut


def test_a_block_says_how_many_weights_it_has():
    """Beside a box that holds its words, and under the words that stand beside a narrow one."""
    for channels in (64, 8):
        axis, said = drawn(draw_block, Bottleneck(4 * channels, channels, 1, "C", "1x1"), counted=True)
        for count in (4 * channels**2, 9 * channels**2):
            assert f"{count:,}" in words(axis).split() and f"({count:,} weights)" in " ".join(said)
    figure = plot.blocks({"narrow": Bottleneck(256, 64), "wide": BasicBlock(256, 256)}, "Words.", counted=True)
    assert "narrow, 69,632 weights: 1×1, 64 (16,384 weights)" in figure.alt and "wide, 1,179,648 weights" in figure.alt


def drawn_unit(placement, shortcut="A", inputs=8, **constants):
    return drawn(draw_unit, Unit(unit_convs(inputs, 8, 1, False), placement, shortcut, **constants))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_unit_is_drawn_layer_by_layer(placement):
    axis, said = drawn_unit(placement)
    key = PLACEMENTS[placement].lower().replace("pre-", "pre").replace(" ", "_").replace("-", "_")
    inside, after = facts("preact-units")[key].split(" | add")
    layers = [*inside.split(), "+", *after.replace(",", "").split()]
    assert [layer.get_label() for layer in named(axis, "conv", "BN", "ReLU", "+")] == layers
    assert said.partition(";")[0].replace("addition", "+").split(", ") == layers
    bold = max(patch.get_linewidth() for patch in accented(axis)) > 2
    assert bold == ("clean path" in said) == (placement in "cde")  # nothing stands on the path from unit to unit


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
    axis, said = drawn_unit("c", shortcut, **constants)
    shown = [text.get_text() for text in axis.texts]
    assert sorted(text for text in shown if "×" in text or "g(x)" in text or text == "dropout") == sorted(words)
    assert said.endswith(f"on the shortcut {words[0]}") and all(word in said for word in words)
    assert max(patch.get_linewidth() for patch in accented(axis)) <= 2


def test_a_wiring_has_an_arrow_for_every_coefficient():
    for name, labels in (("midpoint", ["1/2", "1"]), ("rk4", ["1/2", "1/2", "1", "1/6", "1/3", "1/3", "1/6"]), ("rk8", [])):
        method = tableau(name)
        axis, said = drawn(draw_wiring, method)
        for kind, values in (("a", [value for row in method.a for value in row]), ("b", method.b)):
            arrows = named(axis, kind)
            assert len(arrows) == sum(bool(value) for value in values)
            dotted = sum(arrow.get_linestyle() not in ("-", "solid") for arrow in arrows)
            assert dotted == sum(bool(value < 0) for value in values)
        assert len(named(axis, *(f"F{i}" for i in range(1, method.stages + 1)))) == method.stages
        assert [text.get_text() for text in axis.texts if text.get_text() in ("1", "1/2", "1/3", "1/6")] == labels
        assert all(label in said for label in labels)


def test_networks_have_a_bar_for_every_layer_and_an_arc_for_every_shortcut(shown):
    with torch.device("meta"):
        nets = {"VGG-19": build("vgg19"), "plain": build("plain34"), "residual": build("resnet34")}
    alt = plot.networks(nets, "Words.").alt
    (axis,) = shown[0].axes
    places = {title: next(t.get_position()[1] for t in axis.texts if t.get_text() == title) for title in nets}
    for title, net in nets.items():
        below = [y for y in places.values() if y > places[title]]
        rows = {row.name: row for row in describe(net, 224).rows if not row.projection}
        bars = [p for p in named(axis, *rows) if places[title] < p.get_xy()[0, 1] < min(below, default=np.inf)]
        assert sorted(bar.get_label() for bar in bars) == sorted(rows)
        convs = [bar for bar in bars if rows[bar.get_label()].kind == "conv"]
        tall = {bar.get_label(): np.ptp(bar.get_xy()[:, 1]) / rows[bar.get_label()].outputs for bar in convs}
        assert np.allclose(list(tall.values()), tall[convs[0].get_label()])
        assert np.all(np.diff([bar.get_xy()[0, 0] for bar in sorted(bars, key=lambda b: [*rows].index(b.get_label()))]) > 0)
    arcs = named(axis, *(f"layer{i}.{j}" for i in range(1, 5) for j in range(6)))
    dotted = {arc.get_label() for arc in arcs if arc.get_linestyle() not in ("-", "solid")}
    assert (len(arcs), dotted) == (16, {"layer2.0", "layer3.0", "layer4.0"})
    assert alt.endswith("16 shortcuts, 3 of them dotted.") and alt.count("no shortcuts") == 2


def test_volumes_are_to_scale_and_their_zeros_hatched(shown):
    flow = {"A": [(4, 8, 8), "every 2nd pixel", (4, 4, 4), "zeros", (12, 4, 4, 8)], "B": [(4, 8, 8), "1×1", (12, 4, 4)]}
    alt = plot.volumes(flow, "Words.").alt
    assert alt == ("A: 4×8×8, every 2nd pixel, 4×4×4, zeros, 12×4×4, the last 8 channels zeros. B: 4×8×8, 1×1, 12×4×4.")
    first, second = shown[0].axes
    fronts = [widths(front)[0] for axis in (first, second) for front in named(axis, "values")]
    assert np.allclose(np.array(fronts) / fronts[0], [1, 1, 1, 1, 3])
    (zeros,) = named(first, "zeros")
    assert zeros.get_hatch() and widths(zeros)[0] == pytest.approx(2 * fronts[0]) and not named(second, "zeros")
    plot.volumes({"input": (3, 8, 8), "output": (6, 4, 4)}, "Words.")
    assert {"input", "output"} <= {text.get_text() for text in shown[1].axes[0].texts}


def test_unrolled_blocks_are_all_their_paths(shown):
    alt = plot.unrolled(3, "Words.").alt
    (axis,) = shown[0].axes
    products = [
        t.get_text() for t in axis.texts if re.fullmatch(r"\$(I|J_\d(\\,J_\d)*)\$", t.get_text()) and t.get_fontsize() == 10
    ]
    assert products == ["$I$", "$J_1$", "$J_2$", "$J_3$", r"$J_2\,J_1$", r"$J_3\,J_1$", r"$J_3\,J_2$", r"$J_3\,J_2\,J_1$"]
    through = [p.get_label() for p in axis.patches if re.fullmatch(r"\d{3} block \d", p.get_label())]
    assert sorted(through) == sorted(
        f"{path:03b} block {i}" for path in range(8) for i in (1, 2, 3) if f"{path:03b}"[i - 1] == "1"
    )
    assert "1 path through no block, 3 paths through 1 block, 3 paths through 2 blocks, 1 path through 3 blocks" in alt


def test_nested_classes_come_closer_and_others_may_not(shown):
    alt = plot.nested("Words.", ("a", "b", "c"), "goal", ("left", "right")).alt
    left, right = ([float(d) for d in re.findall(r"\d\.\d", part)] for part in alt.split("right:"))
    assert right == sorted(right, reverse=True) and left != sorted(left, reverse=True)
    for axis in shown[0].axes:
        ellipses = named(axis, "a", "b", "c")
        ellipses.sort(key=lambda ellipse: ellipse.width)
        assert {"goal", "a", "b", "c"} <= {text.get_text() for text in axis.texts}
        for small, large in zip(ellipses, ellipses[1:]):
            inside = large.get_path().transformed(large.get_patch_transform())
            edge = small.get_path().transformed(small.get_patch_transform()).vertices
            assert inside.contains_points(edge).all() == (axis.get_title() == "right")


def test_the_words_of_a_drawing_say_what_was_drawn():
    block = plot.blocks({"Residual block": BasicBlock(8, 8, 1, "A", "3x3")}, "Words.")
    assert block.alt == "Residual block: 3×3, 8; BN; ReLU; 3×3, 8; BN; plus identity shortcut; ReLU."
    assert plot.wirings({"Midpoint": tableau("midpoint")}, "Words.").alt == "Midpoint: 1→2 1/2, 2→y 1."
    unit = plot.units({"(e)\nfull": Unit(unit_convs(4, 4, 1, False), "e", "A")}, "Words.")
    assert unit.alt == "(e) full: BN, ReLU, conv, BN, ReLU, conv, addition; clean path."


def test_figures_carry_their_numbers():
    assert "a: from 60 at 10 to 30 at 20" in plot.curves({"a": LOG}, {"train_error": "training"}, "Words.").alt
    assert "left, a: training 30.0, test 41.0" in plot.train_test({"left": {"a": LOG}}, "Words.").alt
    better = [line | {"test_error": line["test_error"] - 2} for line in LOG]
    assert "a: training 30.0, test 40.0 (means of 2 seeds)" in plot.train_test({"left": {"a": [LOG, better]}}, "Words.").alt
    assert "row x 1.50" in plot.bars({"row": {"x": 1.5}}, "unit", "Words.", digits=2).alt
    assert "ours 8.05 (2 seeds), the paper 8.75" in plot.dots({"ours": [8.0, 8.1]}, "error", "Words.", {"ours": 8.75}, 2).alt
    assert "plain left 1.0, right 8.0" in plot.slopes({"plain": {"left": 1, "right": [7, 9]}}, "error", "Words.").alt
    assert "ResNet: 20 (0.27, 8.75)" in plot.scatter({"ResNet": {"20": (0.27, 8.75)}}, "x", "y", "Words.").alt
    bowl = torch.tensor([[2.0, 1.0, 3.0], [4.0, 0.5, 9.0]])
    assert "bowl: lowest 0.5 at (0, 1), highest 9" in plot.contours({"bowl": bowl}, [-1, 0, 1], [0, 1], "x", "y", "Words.").alt
    assert "ones: 1 0; 0 1" in plot.grids({"ones": torch.eye(2)}, "Words.", digits=0).alt


def test_a_figure_is_a_sharp_small_png_with_its_alt_text():
    figure = plot.lines({"a": [1, 2, 3]}, "x", "y", "Three points.")
    data, metadata = figure._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == figure.alt != "Three points."
    size = Image.open(io.BytesIO(figure.png)).size
    assert size[0] > 900 and [metadata["image/png"][side] for side in ("width", "height")] == [n // 2 for n in size]
    assert figure.png == plot.lines({"a": [1, 2, 3]}, "x", "y", "Three points.").png


def test_the_caption_is_seen_under_the_picture(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append(data))
    plot.lines({"a": [1, 2, 3]}, "x", "y", "Three *points*.")._ipython_display_()
    picture, caption = shown
    assert set(picture) == {"image/png", "text/plain"}
    assert caption == {"text/markdown": "*Three \\*points\\*.*", "text/plain": "Three *points*."}


def test_a_picture_of_many_photographs_stays_small(monkeypatch):
    noise = torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8, generator=torch.manual_seed(0))
    sizes = [len(plot.images({f"row {i}": noise[10 * i : 10 * i + 10] for i in range(rows)}, "W.").png) for rows in (1, 4)]
    assert max(sizes) < 250_000  # noise is the worst case: real photographs stay under 150 kB


@pytest.fixture
def shown(monkeypatch):
    """The matplotlib figures that were turned into pictures."""
    figures = []
    picture = plot.figure._png
    monkeypatch.setattr(plot.figure, "_png", lambda figure: figures.append(figure) or picture(figure))
    return figures


def test_training_is_thin_and_test_is_bold(shown):
    plot.train_test({"left": {"a": LOG}, "right": {"b": LOG}}, "Words.")
    left, right = shown[0].axes
    test, train = left.lines
    assert test.get_linewidth() > 2 * train.get_linewidth()
    assert list(test.get_ydata()) == [65.0, 41.0] and list(train.get_ydata()) == [60.0, 30.04]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylabel() == "error (%): thin training, bold test"


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
    named = [text.get_text() for text in (axis.get_legend().get_texts() if axis.get_legend() else axis.texts)]
    assert sorted(named) == sorted(TWELVE)


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
        lambda: plot.volumes(dict.fromkeys(TWELVE, (4, 8, 8)), "Words."),
        lambda: detection.overlaps((0, 0, 4, 4), dict.fromkeys(TWELVE, (2, 2, 6, 6)), "Words."),
    ],
    ids="train_test bars grids images heat_maps blocks networks units wirings volumes overlaps".split(),
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
    assert lines_by_name(axis) == {"a": [5, 6], "b": [7, 8]}
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


def test_cells_of_small_and_large_matrices_are_equal_and_a_stride_of_two_is_outlined(shown):
    plot.grids({"x": torch.arange(16.0).reshape(4, 4), "kept": torch.eye(2)}, "Words.", digits=0, outline="even")
    large, small = shown[0].axes
    cells = [axis.transData.transform([(0, 0), (1, 1)]) for axis in (large, small)]
    sides = [abs(ends[1] - ends[0]) for ends in cells]
    assert sides[0] == pytest.approx(sides[1], rel=0.02)
    assert {patch.get_xy() for patch in large.patches} == {(0, 0), (2, 0), (0, 2), (2, 2)} and not small.patches


@pytest.mark.parametrize("log_x", [False, True])
def test_the_first_and_the_last_dot_of_a_line_are_whole(shown, log_x):
    plot.lines({"a": {1: 1.0, 2: 2.0, 8: 3.0}}, "x", "y", "Words.", log_x=log_x)
    (axis,) = shown[0].axes
    low, high = axis.get_xlim()
    assert low < 1 and high > 8


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


# --- what is drawn is what is named: values per label, from the axes, and in the words of the description ---------

ERRORS = {"deep": [62.5, 31.0, 17.25], "shallow": [55.0, 20.5, 8.75], "middle": [58.0, 25.0, 12.5]}
LOGS = {
    name: [{"iteration": 10 * i, "train_error": e, "test_error": e + 1.5} for i, e in enumerate(values, 1)]
    for name, values in ERRORS.items()
}
HEIGHTS = {"row": {"one": 1.25, "two": 3.5, "three": 2.0}, "other row": {"one": 4.5, "two": 0.5, "three": 6.25}}


def look_of(artist):
    """What a legend has to show of a line or of bars."""
    if hasattr(artist, "get_linestyle") and hasattr(artist, "get_marker"):
        return artist.get_color(), artist.get_linestyle(), artist.get_marker()
    patch = artist[0] if isinstance(artist, tuple) else artist
    return patch.get_facecolor(), patch.get_hatch()


def lines_by_name(axis):
    """name at the end of a line -> y values of that line: their color is the same, and the name's mark is the line's end."""
    found = {}
    for text in axis.texts:
        (line,) = [line for line in axis.lines if line.get_label() == text.get_text()] or [None]
        if line:
            assert text.get_color() == line.get_color()
            assert text.xy[0] == line.get_xdata()[-1]
            assert text.xy[1] == np.clip(line.get_ydata()[-1], *axis.get_ylim())
            found[text.get_text()] = [*map(float, line.get_ydata())]
    return found


def test_curves_belong_to_their_names(shown):
    figure = plot.curves(LOGS, {"train_error": "training", "test_error": "test"}, "Words.")
    left, right = shown[0].axes
    assert (left.get_title(), right.get_title()) == ("training", "test") and left.get_ylabel() == "error (%)"
    assert lines_by_name(left) == ERRORS
    assert lines_by_name(right) == {n: [e + 1.5 for e in v] for n, v in ERRORS.items()}
    assert [[*line.get_xdata()] for line in left.lines] == [[10, 20, 30]] * 3
    training, _, test = figure.alt.partition(" test: ")
    for name, values in ERRORS.items():
        assert f"{name}: from {values[0]:.3g} at 10 to {values[-1]:.3g} at 30." in training
        assert f"{name}: from {values[0] + 1.5:.3g} at 10 to {values[-1] + 1.5:.3g} at 30." in test


def test_training_and_test_belong_to_their_names(shown):
    figure = plot.train_test({"left": LOGS}, "Words.")
    (axis,) = shown[0].axes
    assert lines_by_name(axis) == {name: [e + 1.5 for e in values] for name, values in ERRORS.items()}
    colors = {text.get_text(): text.get_color() for text in axis.texts}
    for name, values in ERRORS.items():
        test, train = (line for line in axis.lines if line.get_color() == colors[name])
        assert ([*test.get_ydata()], [*train.get_ydata()]) == ([e + 1.5 for e in values], values), name
        assert f"left, {name}: training {values[-1]:.1f}, test {values[-1] + 1.5:.1f}." in figure.alt


def test_lines_belong_to_their_names(shown):
    plot.lines(ERRORS, "x", "y", "Words.")
    assert lines_by_name(shown[0].axes[0]) == ERRORS
    assert (shown[0].axes[0].get_xlabel(), shown[0].axes[0].get_ylabel()) == ("x", "y")


def test_seeds_are_thin_under_their_mean(shown):
    figure = plot.lines({"plain": [[1.0, 2.0], [3.0, 6.0]], "residual": [5.0, 5.0]}, "x", "y", "Words.")
    first, second, mean, single = shown[0].axes[0].lines
    assert [[*line.get_ydata()] for line in (first, second, mean)] == [[1, 2], [3, 6], [2, 4]]
    assert max(first.get_linewidth(), second.get_linewidth()) < mean.get_linewidth() / 2
    assert lines_by_name(shown[0].axes[0]) == {"plain": [2, 4], "residual": [5, 5]}
    assert "plain, the mean of 2 seeds: from 2 at 1 to 4 at 2 (single seeds 2 to 6)." in figure.alt
    plot.curves({"plain": [LOG, LOG]}, {"train_error": "training"}, "Words.")
    assert len(shown[1].axes[0].lines) == 3


def test_panels_share_an_axis_and_x_may_fall(shown):
    series = {
        "left": {"plain": [{3: 1.0, 2: 10.0, 1: 100.0}, {3: 1.0, 2: 10.0, 1: 10_000.0}]},
        "right": {"residual": {3: 1.0, 1: 2.0}},
    }
    figure = plot.panels(series, "block", "gradient", "Words.", log=True)
    left, right = shown[0].axes
    assert left.get_ylim() == right.get_ylim() and left.get_xlim()[0] > left.get_xlim()[1]
    assert lines_by_name(left)["plain"] == pytest.approx([1, 10, 1000]) and lines_by_name(right) == {"residual": [1, 2]}
    assert "left: plain, the mean of 2 seeds: from 1 at 3 to 1,000 at 1 (single seeds 100 to 10,000)." in figure.alt


def test_plain_and_residual_have_their_colors_everywhere(shown):
    names = ["20 layers, plain", "ResNet-20", "56 layers, plain", "56 layers, residual", "Highway"]
    plot.lines({name: [1, 2] for name in names}, "x", "y", "Words.")
    plot.bars({name: {"": 1.0} for name in names[:2]}, "unit", "Words.")
    plot.dots(dict.fromkeys(names[:2], 1.0), "unit", "Words.")
    lines = {line.get_label(): line for line in shown[0].axes[0].lines}
    assert [lines[name].get_color() for name in names[:2]] == [to_rgb(plot.PLAIN), to_rgb(plot.ACCENT)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines.values()}) == len(names)
    assert [to_hex(bar.get_facecolor()) for bar in shown[1].axes[0].patches] == [plot.PLAIN, plot.ACCENT]
    assert [line.get_color() for line in shown[2].axes[0].lines] == [plot.PLAIN, plot.ACCENT]
    gray = [np.dot(to_rgb(color), [0.2126, 0.7152, 0.0722]) for color in (plot.PLAIN, plot.ACCENT)]
    assert gray[1] - gray[0] > 0.1  # two grays in print


def test_code_names_are_said_as_the_papers_do(shown):
    plot.lines({"cifar-plain20": [1, 2], "cifar-resnet56": [2, 3], "rk432": [3, 4], "20 layers": [4, 5]}, "x", "y", "Words.")
    assert [*lines_by_name(shown[0].axes[0])] == ["plain-20", "ResNet-56", "RK4-32", "20 layers"]
    plot.lines({"rk8": [1, 2], "euler, factor 2": [2, 3], "vgg16": [3, 4], "resnets": [4, 5]}, "x", "y", "Words.")
    assert [*lines_by_name(shown[1].axes[0])] == ["RK8", "Euler, factor 2", "VGG-16", "resnets"]
    for figure in (
        plot.curves({"cifar-plain20": LOG}, {"train_error": "training"}, "Words."),
        plot.train_test({"left": {"resnet20": LOG}}, "Words."),
        plot.bars({"cifar-plain20": {"resnet20": 1.0}}, "unit", "Words."),
    ):
        assert not re.search(r"cifar-|plain20|resnet20", figure.alt)


def test_cuts_of_the_rate_and_chance_are_marked(shown):
    log = [{"iteration": i, "train_error": 50.0, "lr": lr} for i, lr in ((10, 0.1), (20, 0.1), (30, 0.01), (40, 0.001))]
    plot.curves({"a": log}, {"train_error": "training"}, "Words.", chance=90)
    plot.lines({"a": [1, 2, 3]}, "x", "y", "Words.", drops=[2], borders={3: "stage 2"})
    places = {text.get_text(): text.get_position()[0] for text in shown[0].axes[0].texts}
    assert [t.get_position()[0] for t in shown[0].axes[0].texts if "rate" in t.get_text()] == [20, 30] and "chance" in places
    assert {t.get_text(): t.get_position()[0] for t in shown[1].axes[0].texts} == {"rate ÷ 10": 2, "stage 2": 3}


def test_a_gap_is_drawn_with_its_size(shown):
    figure = plot.curves(
        {"a": LOG, "b": [{**line, "test_error": 50.0} for line in LOG]}, {"test_error": "test"}, "W.", gap="points"
    )
    axis = shown[0].axes[0]
    assert [*axis.lines[-1].get_ydata()] == [41, 50] and "9.0 points" in [text.get_text() for text in axis.texts]
    assert figure.alt.endswith("test: 9.0 points apart.")


def test_a_mean_that_is_almost_zero_has_no_sign():
    almost = [-0.1, -0.2, 0.3]
    assert sum(almost) < 0
    assert "same 0.0 (3 seeds)" in plot.dots({"same": almost}, "unit", "Words.").alt
    assert "-0.0" not in plot.slopes({"same": {"a": almost, "b": 1.0}}, "unit", "Words.").alt


def test_dots_slopes_and_scatter_stand_where_their_numbers_are(shown):
    plot.dots({"A": [1.0, 3.0], "B": 5.0}, "unit", "Words.", {"B": 6.0})
    seeds, mean, other, paper = shown[0].axes[0].lines
    assert [[*line.get_xdata()] for line in (seeds, mean, other, paper)] == [[1, 3], [2], [5], [6]]
    assert [label.get_text() for label in shown[0].axes[0].get_yticklabels()] == ["A", "B"]
    plot.slopes({"plain": {"20": 1.0, "56": [7.0, 9.0]}, "residual": {"20": 2.0, "56": 0.5}}, "unit", "Words.")
    ends = {line.get_label(): [*line.get_ydata()] for line in shown[1].axes[0].lines}
    assert (ends["plain"], ends["residual"]) == ([1, 8], [2, 0.5])
    assert {"1.0", "8.0", "2.0", "0.5"} <= {text.get_text() for text in shown[1].axes[0].texts}
    plot.scatter({"ResNet": {"20": (1.0, 9.0), "56": (3.0, 7.0)}, "others": [(2.0, 8.0)]}, "x", "y", "Words.")
    first, second = shown[2].axes[0].lines
    assert ([*first.get_xdata()], [*first.get_ydata()], [*second.get_xdata()]) == ([1, 3], [9, 7], [2])
    assert {text.get_text(): text.xy for text in shown[2].axes[0].texts if text.get_text()} == {"20": (1, 9), "56": (3, 7)}


def test_names_at_lines_that_end_together_do_not_meet(shown):
    plot.lines({f"series {i}": [1.0, 5.0 + i / 1000] for i in range(6)}, "x", "y", "Words.")
    axis = shown[0].axes[0]
    boxes = sorted((Text.get_window_extent(text) for text in axis.texts), key=lambda box: box.y0)
    assert len(boxes) == 6 and all(below.y1 <= above.y0 for below, above in zip(boxes, boxes[1:]))


def bars_by_legend(axis, upright=False):
    """label of the group -> name in the legend -> length of the bar."""
    legend, ticks = axis.get_legend(), axis.get_xticklabels() if upright else axis.get_yticklabels()
    name_of = {look_of(key): text.get_text() for text, key in zip(legend.get_texts(), legend.legend_handles)}
    found = {}
    for bar in axis.patches:
        place = bar.get_x() if upright else bar.get_y()
        thick = bar.get_width() if upright else bar.get_height()
        (group,) = [t.get_text() for t in ticks if abs(t.get_position()[0 if upright else 1] - place - thick / 2) < 0.45]
        found.setdefault(group, {})[name_of[look_of(bar)]] = bar.get_height() if upright else bar.get_width()
    return found


def texts_of(axis, bars):
    """The words at the end of each bar."""
    for bar in bars:
        end = bar.get_width(), bar.get_y() + bar.get_height() / 2
        yield next(text for text in axis.texts if np.allclose(text.xy, end))


@pytest.mark.parametrize("draw, upright", [(plot.bars, False), (detection.gains, True)])
def test_bars_belong_to_their_names(shown, draw, upright):
    figure = draw(HEIGHTS, "unit", "Words.")
    (axis,) = shown[0].axes
    assert bars_by_legend(axis, upright) == HEIGHTS
    if not upright:  # the number at a bar is its length
        written = {bar: text.get_text() for bars in axis.containers for bar, text in zip(bars, texts_of(axis, bars))}
        assert all(text == f"{bar.get_width():,.1f}" for bar, text in written.items())
    for label, row in HEIGHTS.items():
        said = ", ".join(f"{value:.1f}" if upright else f"{name} {value:.1f}" for name, value in row.items())
        assert f"{label} {said}" in figure.alt
    assert not upright or figure.alt.startswith("Bars, unit, one, two, three: ")


def test_precision_and_recall_belong_to_their_names(shown):
    curves = {"A": (np.array([1, 0.5, 0.6]), np.array([0.2, 0.2, 0.6])), "B": (np.array([0.5, 0.4]), np.array([0.5, 0.9]))}
    detection.precision_recall(curves, "Words.")
    (axis,) = shown[0].axes
    legend = axis.get_legend()
    for text, key in zip(legend.get_texts(), legend.legend_handles):
        thin, bold = (line for line in axis.lines if line.get_color() == key.get_color())
        precision, recall = curves[text.get_text()]
        assert ([*thin.get_xdata()], [*thin.get_ydata()]) == ([*recall], [*precision])
        assert [*bold.get_ydata()][1:-1] == [max(precision[i:]) for i in range(len(precision))]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("recall", "precision")


def test_panels_hold_what_their_titles_say(shown):
    maps = {"ones": torch.ones(1, 2), "twos": torch.full((1, 2), 2.0)}
    plot.grids(maps, "Words.")
    assert {axis.get_title(): words(axis) for axis in shown[0].axes} == {"ones": "1.0 1.0", "twos": "2.0 2.0"}
    dark, light = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    plot.images({"dark": dark, "light": light}, "Words.")
    assert {words(axis): int(axis.images[0].get_array().max()) for axis in shown[1].axes} == {"dark": 0, "light": 255}
    heat = {"rising": torch.arange(64.0).reshape(1, 8, 8), "falling": -torch.arange(64.0).reshape(1, 8, 8)}
    plot.heat_maps(dark, heat, torch.eye(8).bool()[None], "Words.")
    assert {words(axis): float(axis.images[0].get_array().ravel()[-1]) for axis in shown[2].axes} == {
        "image": 0,
        "rising": 63,
        "falling": -63,
    }
    plot.blocks({"A": BasicBlock(4, 8, 2, "A"), "B": BasicBlock(4, 8, 2, "B")}, "Words.")
    assert ["zero padding" in words(axis) for axis in shown[3].axes] == [axis.get_title() == "A" for axis in shown[3].axes]
    plot.units(
        {"before": Unit(unit_convs(4, 4, 1, False), "e", "A"), "after": Unit(unit_convs(4, 4, 1, False), "a", "A")}, "Words."
    )
    first = [named(axis, "conv", "BN")[0].get_label() for axis in shown[4].axes]
    assert dict(zip([axis.get_title() for axis in shown[4].axes], first)) == {"before": "BN", "after": "conv"}
    plot.networks({"eight": build("cifar-resnet8"), "fourteen": build("cifar-resnet14")}, "Words.", 32)
    (axis,) = shown[5].axes
    titles = {t.get_text(): t.get_position()[1] for t in axis.texts if t.get_text() in ("eight", "fourteen")}
    bars = [p.get_xy()[0, 1] for p in axis.patches if p.get_label().startswith("layer") and "conv" in p.get_label()]
    assert titles["eight"] < titles["fourteen"]
    assert [sum(y < titles["fourteen"] for y in bars), sum(y > titles["fourteen"] for y in bars)] == [6, 12]
    plot.wirings({"one stage": tableau("euler"), "four": tableau("rk4")}, "Words.")
    assert {axis.get_title(): words(axis).count("{F}_") for axis in shown[6].axes} == {"one stage": 1, "four": 4}
