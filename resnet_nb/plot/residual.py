"""Drawings of residual blocks, made from the modules (notebooks 02-04)."""

from collections.abc import Iterable, Sequence

from torch import nn

from resnet_nb.models.blocks import NoShortcut, ZeroPad
from resnet_nb.plot.figure import ACCENT, Figure
from resnet_nb.plot.pen import BN, CONV, MUTED, PALE, RELU, SIZE, SMALL, WIDEST, Pen, arrange, breadth, sheet

TALL, FLAT, SEAM, AIR = 0.32, 0.2, 0.035, 0.23  # inches: a convolution, BN or ReLU, between them, an arrow
F, H, X = r"$\mathcal{F}(\mathbf{x})$", r"$\mathcal{H}(\mathbf{x})$", r"$\mathbf{x}$"
JOIN = r"$\mathcal{H}(\mathbf{x}) =$" + "\n" + r"$\mathcal{F}(\mathbf{x})+\mathbf{x}$"
Numbers = tuple[Sequence[float], Sequence[float], Sequence[float]]


def blocks(
    modules: dict[str, nn.Module], caption: str, numbers: dict[str, Numbers] | None = None, counted: bool = False
) -> Figure:
    """Residual blocks side by side (Fig. 2 and Fig. 5): title -> block. A box is as wide as it has channels.

    numbers: title -> (x, F(x), y), small vectors that are written where they flow. counted: each convolution of F says
    on its left how many it has, each title how many they are together.
    """
    if counted:
        modules = {f"{title}\n{_weights(block):,} weights": block for title, block in modules.items()}
    scale, gap = _scale(modules.values()), 0.25 if len(modules) > 2 else 0.55
    heights = {title: (_height(block), _arrows(block)) for title, block in modules.items()}
    tallest = max(height + AIR * arrows for height, arrows in heights.values())
    for smaller in (1, 0.7, 0.55, 0.5):  # side by side, if that goes; words that do not fit are then written beside their boxes
        figure, pens = sheet(len(modules))
        said = []
        for pen, (title, block) in zip(pens, modules.items()):
            height, arrows = heights[title]
            air = min((tallest - height) / arrows, 0.36)
            words = draw_block(pen, block, scale * smaller, (numbers or {}).get(title), air, counted)
            said.append(f"{title}: {'; '.join(words)}.".replace("\n", ", "))
        if len(modules) > 3 or sum(pen.reach[1] - pen.reach[0] + gap for pen in pens) < WIDEST + gap:
            break
    arrange(figure, dict(zip(modules, pens)), gap=gap)
    return Figure(figure, caption, " ".join(said))


def _main(block: nn.Module) -> list[tuple[nn.Conv2d, bool]]:
    """The convolutions of F in order, and whether BN follows."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    layers = [m for name, m in block.named_modules() if isinstance(m, kinds) and "downsample" not in name.split(".")]
    convs = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    return [(layers[i], i + 1 < len(layers) and isinstance(layers[i + 1], nn.BatchNorm2d)) for i in convs]


def _weights(block: nn.Module) -> int:
    return sum(conv.weight.numel() for conv, _ in _main(block))


def _scale(modules: Iterable[nn.Module]) -> float:
    """Inches per channel: every convolution holds its words where the widest stays below 2.8 inches."""
    modules = list(modules)
    convs = [conv for block in modules for conv, _ in _main(block)]
    most = max(c for conv in convs for c in (conv.in_channels, conv.out_channels))
    needed = max(breadth(size_of(conv)) * 2.3 / (conv.in_channels + conv.out_channels) for conv in convs)
    return min(2.8 / most, max((1.0 if len(modules) > 2 else 1.4) / most, needed))


def _height(block: nn.Module) -> float:
    return sum(TALL + (FLAT + SEAM) * (has_bn + 1) for _, has_bn in _main(block)) + 2 * 0.105


def _arrows(block: nn.Module) -> int:
    return len(_main(block)) + 4


def size_of(conv: nn.Conv2d) -> str:
    """Such as "3×3, 64"."""
    return f"{conv.kernel_size[0]}×{conv.kernel_size[1]}, {conv.out_channels}"


def stride_of(conv: nn.Conv2d) -> str:
    return f"stride {conv.stride[0]}" if conv.stride[0] > 1 else ""


def draw_block(
    pen: Pen,
    block: nn.Module,
    scale: float | None = None,
    numbers: Numbers | None = None,
    air: float = AIR,
    counted: bool = False,
) -> list[str]:
    """One block from top to bottom, its shortcut on the right; returns what was drawn, in words."""
    shortcut, convs = block.downsample, _main(block)
    plain, scale = isinstance(shortcut, NoShortcut), scale or _scale([block])
    channels, said = convs[0][0].in_channels, []
    _end(pen, -0.17, X, channels, numbers[0] if numbers else ())
    strip = {"edgecolor": "none"} | ({} if plain else {"name": "input"})
    pen.box(0, -0.035, _wide(channels, scale), 0.07, "", MUTED if plain else ACCENT, **strip)
    y = 0.035
    for conv, has_bn in convs:
        if conv is not convs[0][0]:
            said.append("ReLU")
            y = pen.box(0, y + SEAM, _wide(conv.in_channels, scale), FLAT, "ReLU", RELU)
        pen.arrow((0, y), (0, y + air))
        y = _conv(pen, 0, y + air, conv, has_bn, scale, said, main=True, counted=counted)
    join = y + 1.8 * air + 0.105
    _value(pen, y + 0.8 * air, H if plain else F, numbers[1] if numbers else ())
    if plain:
        pen.arrow((0, y), (0, join + 0.105 + air))
    else:
        pen.arrow((0, y), (0, join - 0.105))
        said.append(_draw_shortcut(pen, block, scale, join, numbers))
        pen.plus(0, join)
        words = JOIN if isinstance(shortcut, (nn.Identity, ZeroPad)) else JOIN.replace("+", r"+W_s\,")
        pen.text(-0.2, join + 0.06, words, side="right")
        pen.arrow((0, join + 0.105), (0, join + 0.105 + air))
    outputs = convs[-1][0].out_channels
    y = pen.box(0, join + 0.105 + air, _wide(outputs, scale), FLAT, "ReLU", RELU)
    pen.arrow((0, y), (0, y + air))
    _end(pen, y + air + 0.12, r"$\mathbf{y}$", outputs, numbers[2] if numbers else ())
    return [*said, "ReLU"]


def _wide(channels: int, scale: float) -> float:
    return max(channels * scale, 0.3)


def _end(pen: Pen, y: float, name: str, channels: int, numbers: Sequence[float]) -> None:
    """What comes in or goes out: its name, with its numbers or how many channels it has."""
    if numbers:
        wide, gap = _cell(numbers) * len(numbers), 0.08
        start = -(breadth(name) + gap + wide) / 2
        pen.text(start, y, name, side="left")
        _cells(pen, start + breadth(name) + gap, y, numbers)
    else:
        pen.text(0, y, f"{name}: {channels} channels")


def _conv(
    pen: Pen,
    x: float,
    y: float,
    conv: nn.Conv2d,
    has_bn: bool,
    scale: float,
    said: list[str],
    main: bool,
    counted: bool = False,
) -> float:
    """A convolution below y, from as wide as its inputs to as wide as its outputs, and its BN; returns where it ends."""
    above, below = _wide(conv.in_channels, scale), _wide(conv.out_channels, scale)
    pen.funnel(x, y, above, below, TALL, CONV, size_of(conv))
    words, stride, count = size_of(conv), stride_of(conv), f"{conv.weight.numel():,}"
    own, apart = {"side": "right", "color": MUTED, "weight": "bold"}, 0.1 * counted  # how the weights are written
    told = ", ".join(filter(None, (words, stride)))
    edge = (above + below) / 4 + abs(above - below) / 2 * 0.08 / TALL + 0.09  # of the words beside it
    if breadth(words) < 0.93 * (above + below) / 2:
        pen.text(x, y + TALL / 2, words)
        if stride and main:
            pen.text(x - edge, y + TALL / 2 + 2 * apart, stride, SMALL, "right", color=MUTED)
        if counted:
            pen.text(x - max(above, below) / 2 - 0.1, y + TALL / 2, count, **own)
    else:
        pen.text(
            x - edge if main else x + edge, y + TALL / 2 - apart, told if main else words, side="right" if main else "left"
        )
        if counted:
            pen.text(x - edge, y + TALL / 2 + apart, count, **own)
    said.append(f"{told} ({count} weights)" if counted else told)
    y += TALL
    if has_bn:
        said.append("BN")
        y = pen.box(x, y + SEAM, below, FLAT, "BN", BN)
    return y


def _value(pen: Pen, y: float, words: str, numbers: Sequence[float]) -> None:
    """What flows down the arrow at y, on its left."""
    start = -0.12
    if numbers:
        start -= 0.02 + _cell(numbers) * len(numbers)
        _cells(pen, start, y, numbers)
        start -= 0.07
    pen.text(start, y, words, side="right")


def _cell(numbers: Sequence[float]) -> float:
    return max(0.23, *(breadth(_written(number), SMALL) + 0.1 for number in numbers))


def _written(number: float) -> str:
    return f"{number:g}".replace("-", "−")


def _cells(pen: Pen, x: float, y: float, numbers: Sequence[float]) -> None:
    """A small vector, its numbers in cells from x on to the right."""
    width = _cell(numbers)
    for i, number in enumerate(numbers):
        pen.box(x + (i + 0.5) * width, y - 0.1, width, 0.2, _written(number), "white", linewidth=0.8)


def _draw_shortcut(pen: Pen, block: nn.Module, scale: float, join: float, numbers: Numbers | None) -> str:
    """From the input on the right to the addition at `join`; returns it in words."""
    shortcut, convs = block.downsample, [conv for conv, _ in _main(block)]
    inputs, outputs = convs[0].in_channels, convs[-1].out_channels
    edge = max(_wide(c, scale) for conv in convs for c in (conv.in_channels, conv.out_channels)) / 2
    start, end, middle = (_wide(inputs, scale) / 2, 0), (0.105, join), join / 2
    dotted = not isinstance(shortcut, nn.Identity) and (inputs != outputs or any(conv.stride[0] > 1 for conv in convs))
    bold = {"size": SIZE, "color": ACCENT, "weight": "bold"}
    if isinstance(shortcut, nn.Identity):
        x = edge + 0.3
        pen.shortcut(start, (x, 0), (x, join), end, name="identity")
        pen.text(x + 0.12, middle - 0.1, "identity", side="left", **bold)
        pen.text(x + 0.12, middle + 0.12, X, side="left", color=ACCENT)
        if numbers:
            _cells(pen, x + 0.12 + breadth(X) + 0.08, middle + 0.13, numbers[0])
        return "plus identity shortcut"
    x = edge + 0.24 + max(_wide(inputs, scale), _wide(outputs, scale)) / 2
    if isinstance(shortcut, ZeroPad):
        top, bottom = middle - TALL / 2, middle + TALL / 2
        _padded(pen, x, top, inputs, outputs, scale, {"edgecolor": ACCENT, "linewidth": 1.2})
        every = {1: "", 2: "every 2nd pixel"}.get(shortcut.stride, f"stride {shortcut.stride}")
        name, title, below = "zeros", "zero padding", every
        told = f"plus zero-padded shortcut ({', '.join(filter(None, (every, f'{shortcut.new_channels} zero channels')))})"
    else:
        said, own = [], [m for m in shortcut.modules() if isinstance(m, nn.Conv2d)]
        has_bn = any(isinstance(m, nn.BatchNorm2d) for m in shortcut.modules())
        top = bottom = middle - (TALL * len(own) + (SEAM + FLAT) * has_bn) / 2
        for conv in own:
            bottom = _conv(pen, x, bottom, conv, has_bn and conv is own[-1], scale, said, main=False)
        name, title, below = "projection", r"projection $W_s$", ", ".join(filter(None, map(stride_of, own)))
        told = f"plus projection shortcut ({'; '.join(said)})"
    pen.text(x, top - (0.32 if below else 0.15), title, **bold)
    if below:
        pen.text(x, top - 0.13, below, SMALL, color=MUTED)
    pen.shortcut(start, (x, 0), (x, top - (0.42 if below else 0.27)), name=name, dotted=dotted, head=False)
    pen.shortcut((x, bottom), (x, join), end, name=name, dotted=dotted)
    return told


def _padded(pen: Pen, x: float, top: float, inputs: int, outputs: int, scale: float, look: dict) -> None:
    """The channels of the input, and hatched the zeros after them."""
    wide, solid = _wide(outputs, scale), _wide(outputs, scale) * inputs / outputs
    left = x - wide / 2
    pen.box(left + solid / 2, top, solid, TALL, X, PALE, f"{inputs} channels", **look)
    if outputs > inputs:
        middle, name = left + (solid + wide) / 2, f"{outputs - inputs} zeros"
        pen.box(middle, top, wide - solid, TALL, "", "white", name, hatch="////", **look)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
        pen.text(middle, top + TALL / 2, "zeros", SMALL, bbox=ground)
