"""How every figure looks, and how it becomes inline SVG or a PNG file.

Figures are built from `Figure` alone: matplotlib's global state (pyplot) is not
touched, so a long-lived server may draw while it does other work. Text stays text: it
can be searched and takes the font of the page.
"""

import io
import re
from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), told apart with any common colour vision.
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
YELLOW = "#F0E442"
INK = "#1b1f24"
MUTED = "#5b6470"
FAINT = "#b9c1ca"
RULE = "#dfe3e8"

PAGE_FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
)

# Typed loosely: matplotlib 3.11 has a literal type of all keys, 3.10 has none.
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": FAINT,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}

DrawP = ParamSpec("DrawP")
DrawnT = TypeVar("DrawnT")


def styled(draw: Callable[DrawP, DrawnT]) -> Callable[DrawP, DrawnT]:
    """Let a drawing function run under the figures' style, and only that function."""

    @wraps(draw)
    def draw_styled(*args: DrawP.args, **kwargs: DrawP.kwargs) -> DrawnT:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def new_figure(width_in: float, height_in: float) -> Figure:
    """Create an empty figure; 72 units of the SVG are one inch."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def label_line_ends(
    axes: Axes, ends: Sequence[tuple[float, float, str, str]], *, gap: float
) -> None:
    """Write each line's name at its end, in its colour, instead of a legend.

    Args:
        axes: Where the lines are.
        ends: For each line its last x, its last y, its label and its colour.
        gap: Least vertical distance between labels, as a part of the axis' height.
    """
    bottom, top = axes.get_ylim()
    right = max(x for x, _, _, _ in ends)
    heights = _spread([(y - bottom) / (top - bottom) for _, y, _, _ in ends], gap)
    for (_, _, label, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            label,
            xy=(right, bottom + height * (top - bottom)),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Turn a figure into an SVG element for a page, the same bytes at every call.

    Args:
        figure: What was drawn.
        name: Unique on the page; every id inside begins with it.
        description: What a reader who cannot see the figure is told.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("'DejaVu Sans'", PAGE_FONT)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    return _replace_opening(svg, name, description)


def to_png(figure: Figure, *, dots_per_inch: int = 200) -> bytes:
    """Turn a figure into a PNG file, the same bytes at every call.

    Neither the moment nor the program that drew it stands in the file.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(
            buffer,
            format="png",
            dpi=dots_per_inch,
            facecolor="white",
            metadata={"Software": None},
        )
    return buffer.getvalue()


def _replace_opening(svg: str, name: str, description: str) -> str:
    """Give the element a label, and drop its fixed size and its name spaces.

    Inside an HTML page the parser knows the name spaces; without them the page holds
    no address of another machine at all.
    """
    view_box = re.search(r'viewBox="[^"]+"', svg)
    assert view_box is not None, "matplotlib writes a viewBox"  # noqa: S101
    body = svg[svg.index(">") + 1 :]
    return (
        f'<svg class="{escape(name)}" role="img" aria-label="{escape(description)}" '
        f"{view_box.group()}>{body}"
    )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move values apart until neighbours are `gap` from each other, order kept."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [heights[index] for index in order]
    for _ in range(50):
        for lower in range(len(placed) - 1):
            overlap = gap - (placed[lower + 1] - placed[lower])
            if overlap > 0:
                placed[lower] -= overlap / 2
                placed[lower + 1] += overlap / 2
    result = [0.0] * len(heights)
    for position, index in enumerate(order):
        result[index] = placed[position]
    return result
