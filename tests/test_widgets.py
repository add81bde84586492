"""The sliders: what moving one does, what stands where nothing runs, and that those of the notebooks draw."""

import base64
import html
import io
import json
import re

import matplotlib.pyplot as plt
import nbformat
import pytest
from helpers import NOTEBOOKS
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from resnet_nb import plot, widgets
from resnet_nb.data import shapes10
from resnet_nb.errors import InputError
from tools import notebooks as tool

WITH_SLIDERS = [path for path in NOTEBOOKS if "widgets.explore(" in path.read_text(encoding="utf-8")]


def draw(depth, middle_width=64):
    if depth == 3:
        raise InputError("depth 3 is not <allowed>")
    return plot.bars({"a block": {"weights": depth * middle_width}}, "weights", f"Depth {depth}.")


def picture(view):
    """The picture in view, its alternative text, and the text under it."""
    alt, png, text = re.fullmatch(
        r'<img alt="([^"]*)" width="\d+" src="data:image/png;base64,([^"]*)"><p><i>(.*)</i></p>', view.picture.value
    ).groups()
    return Image.open(io.BytesIO(base64.b64decode(png))), html.unescape(alt), html.unescape(text)


@pytest.fixture
def view():
    return widgets.explore(draw, depth=range(1, 5), middle_width=[16, 64])


def test_moving_a_slider_draws_with_the_values_of_all(view):
    first, alt, text = picture(view)
    drawn = draw(depth=1, middle_width=64)
    assert (alt, text) == (drawn.alt, drawn.caption) and "weights 64.0" in alt and text == "Depth 1."
    view.sliders["depth"].value = 2
    second, alt, text = picture(view)
    assert (alt, text) == (draw(2, 64).alt, "Depth 2.") and "weights 128.0" in alt
    assert second.tobytes() != first.tobytes()
    view.sliders["middle_width"].value = 16
    assert picture(view)[1] == draw(2, 16).alt
    assert not plt.get_fignums()


def test_a_slider_has_a_label_and_starts_at_the_default(view):
    assert [slider.description for slider in view.sliders.values()] == ["depth", "middle width"]
    assert [slider.value for slider in view.sliders.values()] == [1, 64]
    assert not any(slider.continuous_update for slider in view.sliders.values())
    assert [*view.box.children] == [*view.sliders.values(), view.picture]


def test_jupyter_gets_the_sliders_and_everyone_else_a_sentence(view):
    bundle = view._repr_mimebundle_()
    assert bundle.pop("application/vnd.jupyter.widget-view+json") == {
        "version_major": 2,
        "version_minor": 0,
        "model_id": view.box.model_id,
    }
    sentence = "Sliders: depth (1 to 4), middle width (16 to 64). Run this cell in JupyterLab or Colab to move them."
    assert bundle == {"text/plain": sentence}


def test_bad_input_of_a_later_call_is_one_line_in_the_box(view):
    view.sliders["depth"].value = 3
    assert view.picture.value == '<p role="alert">depth 3 is not &lt;allowed&gt;</p>'
    view.sliders["depth"].value = 4
    assert picture(view)[1] == draw(4).alt


def test_another_error_is_named_in_the_box_and_not_swallowed():
    view = widgets.explore(lambda n: draw(1 / n), n=[1, 0])
    with pytest.raises(ZeroDivisionError):
        view.sliders["n"].value = 0
    assert view.picture.value == '<p role="alert">ZeroDivisionError: division by zero</p>'


@pytest.mark.parametrize(
    "controls, message",
    [
        ({}, r"the sliders \(none\) do not fit draw\(depth, middle_width=64\): missing a required argument: 'depth'"),
        ({"depth": [1, 2], "width": [1, 2]}, r"the sliders \(depth, width\) do not fit .* unexpected keyword argument 'width'"),
        ({"depth": 5}, "depth must be a list or a range of two or more values, got 5"),
        ({"depth": [5]}, r"depth must be a list or a range of two or more values, got \[5\]"),
        ({"depth": "12"}, "depth must be a list or a range of two or more values, got '12'"),
        (
            {"depth": [1, 2], "middle_width": [8, 16]},
            r"middle_width starts at draw's default 64, which is not among its values \[8, 16\]",
        ),
        ({"depth": [3, 4]}, "depth 3 is not <allowed>"),
    ],
)
def test_wrong_controls_are_one_clear_line(controls, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        widgets.explore(draw, **controls)


def test_draw_must_return_a_figure():
    with pytest.raises(InputError, match="^draw must return a figure of resnet_nb.plot, got str$"):
        widgets.explore(lambda n: "a picture", n=[1, 2])


# --- in the notebooks -------------------------------------------------------------------------


def test_stored_notebooks_have_neither_views_nor_states_of_widgets():
    assert len(WITH_SLIDERS) >= 4
    for path in NOTEBOOKS:
        assert "application/vnd.jupyter.widget" not in path.read_text(encoding="utf-8"), path.name
        assert "widgets" not in json.loads(path.read_text(encoding="utf-8"))["metadata"], path.name


def test_the_tool_drops_the_view_and_keeps_the_sentence(view):
    output = new_output("execute_result", view._repr_mimebundle_(), execution_count=1)
    printed = new_output("stream", text="printed")
    nb = tool.canonical(new_notebook(cells=[new_code_cell("view", outputs=[printed, output])]))
    assert nb.cells[0].outputs[0] == printed
    assert list(nb.cells[0].outputs[1].data) == ["text/plain"]
    assert len(output.data) == 2, "the notebook itself is left alone"


@pytest.mark.parametrize("path", WITH_SLIDERS, ids=lambda path: path.stem)
def test_sliders_stand_after_a_static_figure(path):
    pictures = 0
    for cell in tool.code_cells(nbformat.read(path, as_version=4)):
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        pictures += kinds.count("image/png")
        if "widgets.explore(" in cell.source:
            assert pictures and cell.outputs[-1].data["text/plain"].startswith("Sliders: ")
            assert cell.metadata["slideshow"]["slide_type"] == "skip", "a deck cannot move it"


@pytest.mark.parametrize("path", WITH_SLIDERS, ids=lambda path: path.stem)
def test_every_value_of_a_slider_draws_another_figure(path, monkeypatch):
    """The setup cell and those tagged `widget` are all it needs; few drawn images stand in for many."""
    few, views = shapes10(train=20, test=20), []
    monkeypatch.setattr("resnet_nb.data.shapes10", lambda **_: few)
    explore = widgets.explore
    monkeypatch.setattr(widgets, "explore", lambda *args, **controls: views.append(explore(*args, **controls)))
    names = {"data": few, "display": lambda figure: None}
    with plt.rc_context():
        for cell in tool.code_cells(nbformat.read(path, as_version=4)):
            if {"setup", "widget"} & set(tool.tags(cell)):
                exec(cell.source, names)
        (view,) = views
        for slider in view.sliders.values():
            seen, start = set(), slider.value
            for value in slider.options:
                slider.value = value
                seen.add(picture(view)[1:])
            assert len(seen) == len(slider.options)
            slider.value = start
