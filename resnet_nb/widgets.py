"""Sliders over a figure: moving one draws it again; where nothing runs, a sentence stands there (notebooks 04, 08, 12, 13)."""

import base64
import html
import inspect
from collections.abc import Callable, Sequence

import ipywidgets

from resnet_nb.errors import InputError, first_line
from resnet_nb.plot.figure import Figure

VIEW = "application/vnd.jupyter.widget-view+json"
LOOK = {"continuous_update": False, "style": {"description_width": "initial"}}  # draw when let go; show the whole label


class Explorer:
    """Sliders and, under them, the figure of their values with its description; made by `explore`, shown by Jupyter.

    sliders: name of the control -> slider. picture: the HTML under them. box: both. The plain-text form says what can be
    moved; it is all that remains where no kernel runs.
    """

    def __init__(self, draw: Callable[..., Figure], sliders: dict[str, ipywidgets.SelectionSlider]):
        self.draw, self.sliders = draw, sliders
        self.picture = ipywidgets.HTML(self._drawn())
        self.box = ipywidgets.VBox([*sliders.values(), self.picture])
        for slider in sliders.values():
            slider.observe(self._redraw, names="value")

    def _drawn(self) -> str:
        figure = self.draw(**{name: slider.value for name, slider in self.sliders.items()})
        if not isinstance(figure, Figure):
            raise InputError(f"draw must return a figure of resnet_nb.plot, got {type(figure).__name__}")
        alt, caption, png = html.escape(figure.alt), html.escape(figure.caption), base64.b64encode(figure.png).decode()
        # JupyterLab drops the alternative text of a PNG output, but not that of an img
        return f'<img alt="{alt}" width="{figure.size[0]}" src="data:image/png;base64,{png}"><p><i>{caption}</i></p>'

    def _redraw(self, change) -> None:
        try:
            self.picture.value = self._drawn()
        except Exception as error:  # no cell is running that could show it
            name = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self.picture.value = f'<p role="alert">{html.escape(name + first_line(error))}</p>'
            if name:
                raise

    def _repr_mimebundle_(self, include=None, exclude=None):
        ranges = [f"{slider.description} ({slider.options[0]} to {slider.options[-1]})" for slider in self.sliders.values()]
        text = f"Sliders: {', '.join(ranges)}. Run this cell in JupyterLab or Colab to move them."
        return {"text/plain": text, VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}}


def explore(draw: Callable[..., Figure], /, **controls: Sequence) -> Explorer:
    """One slider for each control; moving it calls `draw` with the values of all and shows the figure.

    draw: takes the controls by name and returns a figure of `plot`. controls: name -> the values to choose from, in their
    order; in the label underscores become spaces. A slider starts at draw's default, or without one at the first value. An
    InputError of a later call is shown as its line. Raises InputError if the controls do not fit `draw`, if one is not a
    list or range of at least two values, and what the first call of `draw` raises.
    """
    signature = inspect.signature(draw)
    try:
        signature.bind(**controls)
    except TypeError as error:
        raise InputError(f"the sliders ({', '.join(controls) or 'none'}) do not fit draw{signature}: {error}") from error
    sliders = {}
    for name, values in controls.items():
        if not isinstance(values, (list, tuple, range)) or len(values) < 2:
            raise InputError(f"{name} must be a list or a range of two or more values, got {values!r}")
        start = signature.parameters[name].default
        start = values[0] if start is inspect.Parameter.empty else start
        if start not in values:
            raise InputError(f"{name} starts at draw's default {start!r}, which is not among its values {list(values)}")
        sliders[name] = ipywidgets.SelectionSlider(options=values, value=start, description=name.replace("_", " "), **LOOK)
        sliders[name].tooltip = f"{values[0]} to {values[-1]}"  # without one the label's tooltip reads "null"
    return Explorer(draw, sliders)
