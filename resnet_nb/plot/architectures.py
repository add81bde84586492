"""Drawings of whole networks, and of the tensors that flow through them, made from the modules (notebooks 03, 06)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from resnet_nb.anatomy import Layer, bare, describe
from resnet_nb.models.blocks import NoShortcut, stages
from resnet_nb.plot.figure import ACCENT, INK, PLAIN, Figure, color
from resnet_nb.plot.pen import CONV, DOTTED, MUTED, SIZE, SMALL, Pen, arrange, breadth, sheet

FC, BAND, WIDE = "#e9dfcf", "#f3f5f7", 8.0  # fills of a linear layer and of every second band; inches of all layers
TALLEST, LINE = 0.56, 0.155  # inches: the layer with the most channels, a line of words
Volume = tuple[int, ...]


@dataclass(frozen=True)
class Bar:
    """One layer as it is drawn, or a pool (name "")."""

    name: str
    kind: str  # "conv", "fc" or "pool"
    size: int  # side of its output map
    channels: int
    kernel: int = 0
    stride: int = 1

    @property
    def words(self) -> str:
        return f"fc {self.channels}" if self.kind == "fc" else f"{self.kernel}×{self.kernel}, {self.channels}"


def bars_of(rows: tuple[Layer, ...]) -> Iterator[Bar]:
    """Every weighted layer, and a pool wherever the map shrinks before a layer that does not stride."""
    before = None
    for row in rows:
        if row.projection:
            continue
        if before is not None and before.kind == "conv":
            # what enters a linear layer: its inputs are the channels times the pixels of the map
            enters = row.size * row.stride if row.kind == "conv" else round((row.inputs / before.outputs) ** 0.5)
            if enters < before.size:
                yield Bar("", "pool", enters, before.outputs)
        yield Bar(row.name, row.kind, row.size, row.outputs, row.kernel, row.stride)
        before = row


def networks(models: dict[str, nn.Module], caption: str, input_size: int = 224) -> Figure:
    """Networks from left to right, one below the other (Fig. 3): title -> network. One bar for every weighted layer.

    A bar is as tall as it has channels; maps of one size share a band. Arcs are shortcuts, dotted where they change the
    shape. input_size is the image's side in pixels.
    """
    found = {title: describe(model, input_size) for title, model in models.items()}
    rows = {title: [*bars_of(anatomy.rows)] for title, anatomy in found.items()}
    figure, (pen,) = sheet(1)
    bands, pitch = _bands(rows)
    scale = TALLEST / max(bar.channels for bars in rows.values() for bar in bars if bar.kind != "fc")
    y, said, tops = 0.62, [], 0.12
    for title, bars in rows.items():
        work = f"{found[title].multiply_adds / 1e9:.1f} billion multiply-adds"
        if found[title].multiply_adds < 1e8:
            work = f"{found[title].multiply_adds / 1e6:.0f} million multiply-adds"
        pen.text(0.04, y - 0.22, title, 11, "left", weight="bold", color=color(title) or INK)
        pen.text(0.14 + breadth(title, 11, "bold"), y - 0.22, work, SMALL, "left", color=MUTED)
        middle = y + 0.32
        nodes = _draw_bars(pen, middle, bars, bands, scale, pitch)
        arcs = _draw_shortcuts(pen, middle, bare(models[title]), bars, nodes, scale)
        lines = _label_bands(pen, middle + TALLEST / 2 + 0.14, bars, bands)
        y = middle + TALLEST / 2 + 0.14 + LINE * lines + 0.33
        said.append(f"{title}: {_in_words(bars, arcs)}.")
    bottom = y - 0.36
    for i, (size, (left, right)) in enumerate(bands.items()):
        words = f"{size}×{size}"
        pen.text((left + right) / 2, tops + 0.02, words, SMALL, weight="bold", color=PLAIN)
        corners = [(left, -0.02), (right, -0.02), (right, bottom), (left, bottom)]
        pen.shape(corners, "white" if i % 2 else BAND, f"band {size}", linewidth=0, zorder=0)
    _legend(pen, bottom + 0.2, rows, models)
    arrange(figure, {"": pen})
    return Figure(figure, caption, " ".join(said))


def _bands(rows: dict[str, list[Bar]]) -> tuple[dict[int, tuple[float, float]], float]:
    """Map size -> left and right end of its band, which holds its words and the most bars; and the distance of two bars."""
    sizes = sorted({bar.size for bars in rows.values() for bar in bars}, reverse=True)
    most = {size: max(sum(bar.size == size for bar in bars) for bars in rows.values()) for size in sizes}
    words = {size: [w for bars in rows.values() for w in _lines([b for b in bars if b.size == size])] for size in sizes}
    least = {size: max(breadth(w, SMALL) for w in [f"{size}×{size}.", *words[size]]) + 0.12 for size in sizes}
    pitch = 0.2
    while pitch > 0.02 and sum(max(least[size], pitch * (most[size] + 0.6)) for size in sizes) > WIDE:
        pitch -= 0.002
    bands, x = {}, 0.0
    for size in sizes:
        width = max(least[size], pitch * (most[size] + 0.6))
        bands[size] = x, x + width
        x += width
    return bands, pitch


def _draw_bars(
    pen: Pen, y: float, bars: list[Bar], bands: dict[int, tuple[float, float]], scale: float, pitch: float
) -> list[float]:
    """The bars of one network along the line at y; returns the places between them, before the first and after the last."""
    places: list[float] = []
    for size, (left, right) in bands.items():
        here = [bar for bar in bars if bar.size == size]
        start = (left + right) / 2 - pitch * len(here) / 2
        places += [start + pitch * (i + 0.5) for i in range(len(here))]
    nodes = [places[0] - pitch / 2, *(place + pitch / 2 for place in places)]
    for bar, place in zip(bars, places):
        tall = max(min(bar.channels * scale, TALLEST), 0.05)
        fill = {"pool": "white", "fc": FC}.get(bar.kind, PLAIN if bar.stride > 1 else CONV)
        wide = 0.58 * pitch
        pen.box(place, y - tall / 2, wide, tall, "", fill, bar.name or "pool", linewidth=0.8)
    pen.arrow((nodes[0] - 0.1, y), (nodes[-1] + 0.1, y), zorder=1)
    return nodes


def _draw_shortcuts(pen: Pen, y: float, model: nn.Module, bars: list[Bar], nodes: list[float], scale: float) -> list[bool]:
    """An arc over every block that has a shortcut; returns for each whether it is dotted: it is not the identity."""
    arcs = []
    for stage, its_blocks in stages(model).items():
        for name, block in its_blocks.named_children():
            inside = [i for i, bar in enumerate(bars) if bar.name.startswith(f"{stage}.{name}.")]
            shortcut = getattr(block, "downsample", None)  # a Runge-Kutta block has several
            if shortcut is None or isinstance(shortcut, NoShortcut):
                continue
            first, last = nodes[inside[0]], nodes[inside[-1] + 1]
            top = y - max(bars[i].channels for i in inside) * scale / 2 - 0.07
            arcs.append(not isinstance(shortcut, nn.Identity))
            ways = (first, y), (first, top), (last, top), (last, y)
            pen.shortcut(*ways, name=f"{stage}.{name}", dotted=arcs[-1], width=1.5, tip=0.075, zorder=2.5)
    return arcs


def _lines(bars: list[Bar]) -> list[str]:
    """What is written below the bars of one band."""
    convs = [bar for bar in bars if bar.kind == "conv"]
    lines = list(dict.fromkeys(bar.words for bar in convs))
    if len(convs) > 1:
        lines.append(f"{len(convs)} layers")
    linear = Counter(bar.words for bar in bars if bar.kind == "fc")
    return lines + [f"{count} × {words}" if count > 1 else words for words, count in linear.items()]


def _label_bands(pen: Pen, y: float, bars: list[Bar], bands: dict[int, tuple[float, float]]) -> int:
    most = 0
    for size, (left, right) in bands.items():
        lines = _lines([bar for bar in bars if bar.size == size])
        for i, line in enumerate(lines):
            pen.text((left + right) / 2, y + LINE * i, line, SMALL, color=MUTED if line.endswith("layers") else INK)
        most = max(most, len(lines))
    return most


def _in_words(bars: list[Bar], arcs: list[bool]) -> str:
    parts = []
    for size in dict.fromkeys(bar.size for bar in bars):
        here = _lines([bar for bar in bars if bar.size == size])
        pools = ["pool"] * any(bar.kind == "pool" and bar.size == size for bar in bars)
        parts.append(f"{size}×{size}: {', '.join(pools + here)}")
    dotted = f", {sum(arcs)} of them dotted" if any(arcs) else ""
    return "; ".join([*parts, f"{len(arcs) or 'no'} shortcuts{dotted}"])


def _legend(pen: Pen, y: float, rows: dict[str, list[Bar]], models: dict[str, nn.Module]) -> None:
    """What the marks mean, as far as they occur."""
    bars = [bar for row in rows.values() for bar in row]
    blocks = [block for model in models.values() for stage in stages(bare(model)).values() for block in stage]
    ways = [block.downsample for block in blocks if hasattr(block, "downsample")]
    entries = [
        ("convolution (height: channels)", CONV, True),
        ("stride 2", PLAIN, any(bar.stride > 1 for bar in bars)),
        ("pooling", "white", any(bar.kind == "pool" for bar in bars)),
        ("fully connected", FC, any(bar.kind == "fc" for bar in bars)),
        ("identity shortcut", "-", any(isinstance(way, nn.Identity) for way in ways)),
        ("shape changes", DOTTED, any(not isinstance(way, (nn.Identity, NoShortcut)) for way in ways)),
    ]
    x = 0.04
    for words, look, there in entries:
        if not there:
            continue
        if words in ("identity shortcut", "shape changes"):
            points = (x, y + 0.05), (x, y - 0.07), (x + 0.26, y - 0.07), (x + 0.26, y + 0.06)
            pen.shortcut(*points, name="legend", dotted=look == DOTTED, width=1.5, tip=0.075)
            x += 0.34
        else:
            pen.box(x + 0.05, y - 0.085, 0.1, 0.17, "", look, "legend", linewidth=0.8)
            x += 0.17
        pen.text(x, y, words, SMALL, "left", color=MUTED)
        x += breadth(words, SMALL) + 0.15


def volumes(shapes: dict[str, Volume | list[Volume | str]], caption: str) -> Figure:
    """Tensors as boxes, C wide and H×W at their face: title -> (C, H, W), or a list of those with words between them.

    The last Z channels of (C, H, W, Z) are zeros and hatched. Words between two tensors are written at the arrow. Single
    tensors are drawn in one row; lists one below the other. Sides and channels have a scale each.
    """
    chains = {title: [value] if isinstance(value, tuple) else list(value) for title, value in shapes.items()}
    every = [part for chain in chains.values() for part in chain if not isinstance(part, str)]
    longest = max(sum(not isinstance(part, str) for part in chain) for chain in chains.values())
    scales = (1.5 if longest > 1 else 0.9) / max(v[0] for v in every), 0.95 / max(v[1] for v in every)
    if longest == 1:
        chains = {"": [part for title, (volume,) in chains.items() for part in ((title,), volume)]}
    tall = max(v[1] for v in every) * scales[1] / 2
    figure, pens = sheet(len(chains))
    said = [
        f"{title}: {_draw_chain(pen, chain, scales, 0)}." if title else f"{_draw_chain(pen, chain, scales, tall)}."
        for pen, (title, chain) in zip(pens, chains.items())
    ]
    for pen in pens:  # their inputs one below the other
        pen.at(max(other.reach[1] for other in pens), 0)
    arrange(figure, dict(zip(chains, pens)), None, stacked=True)
    return Figure(figure, caption, " ".join(said))


def _draw_chain(pen: Pen, chain: list, scales: tuple[float, float], lowest: float) -> str:
    """Tensors with arrows between them; returns them in words. lowest: labels are not above this height."""
    x, said, title = 0.0, [], ""
    for part in chain:
        if isinstance(part, str):
            wide = breadth(part, SMALL) + 0.2
            pen.text(x + wide / 2, -0.13 - 0.08 * part.count("\n"), part, SMALL, color=MUTED)
            pen.arrow((x, 0), (x + wide, 0))
            x += wide + 0.12
            said.append(part.replace("\n", " "))
        elif isinstance(part[0], str):
            (title,) = part
        else:
            x = _volume(pen, x, part, scales, title, lowest) + 0.14
            zeros = f", the last {part[3]} channels zeros" if len(part) > 3 else ""
            name = f"{title} " if title else ""
            said.append(f"{name}{part[0]}×{part[1]}×{part[2]}{zeros}")
    return ", ".join(said)


def _volume(pen: Pen, x: float, shape: Volume, scales: tuple[float, float], title: str, lowest: float) -> float:
    """A box from x on, its middle at y = 0; returns where it ends."""
    channels, height, width, *zeros = shape
    wide, tall, deep = max(channels * scales[0], 0.06), max(height * scales[1], 0.06), max(width * scales[1], 0.06) * 0.42
    words = [f"{channels}", f"{height}×{width}", title]
    label = max(breadth(line, SIZE, "bold") for line in words if line)
    x += max(0, (label - wide - deep) / 2)
    top, end, shift = -tall / 2, x + wide, deep * 0.75
    solid = x + wide * (1 - sum(zeros) / channels)
    for left, right, fill, hatch, name in ((x, solid, CONV, "", "values"), (solid, end, "white", "////", "zeros")):
        if right - left < 1e-9:
            continue
        look = {"hatch": hatch, "edgecolor": ACCENT if hatch else PLAIN}
        name = f"{title} {name}".strip()
        pen.shape([(left, top), (right, top), (right, -top), (left, -top)], fill, name, **look)
        lid = [(left, top), (left + deep, top - shift), (right + deep, top - shift), (right, top)]
        pen.shape(lid, fill if hatch else "#e3eaf1", "lid", **look)
    padded = sum(zeros) > 0
    side = [(end, top), (end + deep, top - shift), (end + deep, -top - shift), (end, -top)]
    pen.shape(side, "white" if padded else "#aebfd0", "face", **({"hatch": "////", "edgecolor": ACCENT} if padded else {}))
    y = max(tall / 2, lowest) + 0.13
    looks = [{"size": SIZE, "weight": "bold"}, {"size": SMALL}, {"size": SMALL, "color": MUTED}]
    words[0] += " channels" if wide > 0.9 or lowest == 0 else ""
    for i, (line, look) in enumerate(zip(words, looks)):
        if line:
            pen.text((x + end + deep * bool(lowest)) / 2, y + 0.17 * i, line, **look)
    return max(end + deep, (x + end + deep + label) / 2)
