"""The report's plots as inline SVG: what they show is in their shapes and words, how it looks is in the page's style.

Everything that stands in a plot is escaped here; what comes back may be put into a page as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from trainer.plain_words import told_p
from trainer.statistics import Change, verdict

__all__ = ["Interval", "Line", "before_after", "curve", "differences", "intervals"]

LARGEST_CIRCLE = 15
LONE_CIRCLE = 5
SMALLEST_CIRCLE = 1.2


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a `curve`: points by step; ``style`` is its CSS class."""

    points: Sequence[tuple[float, float]]
    style: str
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """A row of `intervals`: a change, under a heading of its own where ``group`` is new."""

    group: str
    label: str
    change: Change


def curve(lines: Sequence[Line], title: str, *, level: float | None = None, level_label: str = "") -> Markup:
    """Lines over the steps of a training; ``level`` is a horizontal line to compare with."""
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup('<p class="none">Nothing was logged.</p>')
    width, height, left, bottom, top = 460, 240, 46, 30, 12
    values = [value for _, value in points] + ([] if level is None else [level])
    low, high = min(values), max(values)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    last = max(step for step, _ in points) or 1

    def across(step: float) -> str:
        return f"{left + step / last * (width - left - 12):.1f}"

    def up(value: float) -> str:
        return f"{top + (high - value) / ((high - low) or 1) * (height - top - bottom):.1f}"

    parts = [
        f'<line class="grid" x1="{left}" x2="{width - 12}" y1="{up(tick)}" y2="{up(tick)}"/>'
        f'<text class="tick" x="{left - 6}" y="{up(tick)}" dy=".32em" text-anchor="end">{tick:.3g}</text>'
        for tick in ticks
    ]
    parts += [
        f'<text class="tick" x="{across(step)}" y="{height - bottom + 16}" text-anchor="{anchor}">{label}</text>'
        for step, anchor, label in ((0, "start", "step 0"), (last, "end", f"{last:,.0f}"))
    ]
    if level is not None:
        parts.append(
            f'<line class="level" x1="{left}" x2="{width - 12}" y1="{up(level)}" y2="{up(level)}"/>'
            f'<text class="tick" x="{left + 4}" y="{up(level)}" dy="1.2em" text-anchor="start">'
            f"{escape(level_label)}</text>"
        )
    for line in lines:
        placed = " ".join(f"{across(step)},{up(value)}" for step, value in line.points)
        parts.append(f'<polyline class="{line.style}" points="{placed}"/>')
        if line.dots:
            parts += [
                f'<circle class="dot" cx="{across(step)}" cy="{up(value)}" r="3.5"><title>step {step:g}: {value:.3f}'
                "</title></circle>"
                for step, value in line.points
            ]
    first, final = lines[-1].points[0], lines[-1].points[-1]
    told = f"{title}: {first[1]:.3f} at step {first[0]:g}, {final[1]:.3f} at step {final[0]:g}"
    return _svg(width, height, told, parts)


def intervals(rows: Sequence[Interval], title: str) -> Markup:
    """A forest plot, as a table: each change as a point in its 95 % interval, beside no change, and in figures."""
    bounds = [bound for row in rows for bound in (row.change.low, row.change.high, 0.0)]
    ticks = _ticks(min(bounds, default=0.0), max(bounds, default=0.0))
    low, high = min([*bounds, ticks[0]]), max([*bounds, ticks[-1]])

    def across(value: float) -> str:
        # Room for half of a point, and of a tick's label, at either end.
        return f"{8 + 84 * (value - low) / ((high - low) or 1):.2f}%"

    grid = "".join(
        f'<line class="{"zero" if tick == 0 else "grid"}" x1="{across(tick)}" x2="{across(tick)}" y1="0" y2="100%"/>'
        for tick in ticks
    )
    labels = "".join(
        f'<text class="tick" x="{across(tick)}" y="14" text-anchor="middle">{_signed(tick)}</text>' for tick in ticks
    )
    parts: list[str] = []
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            parts.append(f'<tr><th class="name group" scope="colgroup" colspan="4">{escape(group)}</th></tr>')
        change = row.change
        parts.append(
            f'<tr><th class="name" scope="row">{escape(row.label)}</th><td class="bar-cell">'
            f'<svg class="{verdict(change)}" aria-hidden="true">{grid}'
            f'<line class="whisker" x1="{across(change.low)}" x2="{across(change.high)}" y1="50%" y2="50%"/>'
            f'<circle class="point" cx="{across(change.mean)}" cy="50%" r="4.5"/></svg></td>'
            f"<td>{escape(str(change).replace('-', '−'))}</td><td>{told_p(change.p)}</td></tr>"
        )
    # Every part is made of numbers, fixed words, and names that were escaped where they were put in.
    return Markup(
        f'<table class="forest"><caption>{escape(title)}</caption><thead><tr><th class="name" scope="col">measure</th>'
        '<td></td><th scope="col">change [95 %]</th><th scope="col">p</th></tr></thead>'
        f'<tbody>{"".join(parts)}</tbody><tfoot><tr><td></td><td class="bar-cell"><svg aria-hidden="true">{labels}'
        "</svg></td><td></td><td></td></tr></tfoot></table>"
    )


def before_after(scores: Iterable[tuple[float, float]], title: str) -> Markup:
    """Each question's score before (across) and after (up); a circle's area is how many questions lie there.

    Scores are rounded to .05, and one that rounding would hide is a gain or a loss all the same.
    """
    size, left, bottom, top = 340, 52, 46, 16
    side = size - bottom - top
    counts = Counter(
        (
            round(before * 20) / 20,
            round(after * 20) / 20,
            "gain" if after > before else "loss" if after < before else "same",
        )
        for before, after in scores
    )
    largest = max(counts.values(), default=1)

    def placed(before: float, after: float) -> tuple[float, float]:
        return left + before * side, top + (1 - after) * side

    (x0, y0), (x1, y1) = placed(0, 0), placed(1, 1)
    parts = []
    for tick in (0, 0.5, 1):
        x, y = placed(tick, tick)
        parts.append(
            f'<line class="grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y0:.1f}" y2="{y1:.1f}"/>'
            f'<text class="tick" x="{x0 - 16:.1f}" y="{y:.1f}" dy=".32em" text-anchor="end">{tick:g}</text>'
            f'<text class="tick" x="{x:.1f}" y="{y0 + 25:.1f}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<line class="zero" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')
    for (before, after, style), count in sorted(counts.items(), key=lambda item: -item[1]):
        x, y = placed(before, after)
        radius = min(LARGEST_CIRCLE * math.sqrt(count / largest), LONE_CIRCLE * math.sqrt(count))
        parts.append(
            f'<circle class="bubble {style}" cx="{x:.1f}" cy="{y:.1f}" r="{max(SMALLEST_CIRCLE, radius):.2f}">'
            f"<title>{count} question{'s' if count > 1 else ''}, about {before:.2f} → {after:.2f}</title></circle>"
        )
    middle = (y0 + y1) / 2
    parts.append(f'<text class="tick" x="{(x0 + x1) / 2:.1f}" y="{size - 1}" text-anchor="middle">before</text>')
    parts.append(
        f'<text class="tick" x="11" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 11 {middle:.1f})">after'
        "</text>"
    )
    return _svg(left + side + 18, size, title, parts)


def differences(values: Sequence[float], title: str) -> Markup:
    """What each question gained or lost, sorted: the shape tells a broad gain from a few lucky questions."""
    width, height, left, top, bottom = 400, 340, 40, 10, 34
    ordered = sorted(values, reverse=True)
    reach = max([abs(value) for value in ordered], default=0.0) or 1.0
    middle, half = top + (height - top - bottom) / 2, (height - top - bottom) / 2
    step = (width - left - 8) / max(1, len(ordered))
    parts = []
    for tick in (reach, 0.0, -reach):
        y = middle - tick / reach * half
        parts.append(
            f'<line class="{"zero" if tick == 0 else "grid"}" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y:.1f}" dy=".32em" text-anchor="end">{_signed(tick)}</text>'
        )
    # One outline a side, not a bar a question: a thousand questions are still a small page.
    for style, sign in (("gain", 1), ("loss", -1)):
        places = [place for place, value in enumerate(ordered) if value * sign > 0]
        if places:
            start = left + places[0] * step
            outline = [f"M{start:.1f},{middle:.1f}"]
            for place in places:
                x, y = left + place * step, middle - ordered[place] / reach * half
                outline.append(f"L{x:.1f},{y:.1f}L{x + step:.1f},{y:.1f}")
            outline.append(f"L{left + (places[-1] + 1) * step:.1f},{middle:.1f}Z")
            parts.append(f'<path class="area {style}" d="{"".join(outline)}"/>')
    gained, lost = sum(value > 0 for value in ordered), sum(value < 0 for value in ordered)
    parts.append(
        f'<text class="tick" x="{left}" y="{height - 6}">{gained} gained</text>'
        f'<text class="tick" x="{(left + width - 8) / 2:.0f}" y="{height - 6}" text-anchor="middle">'
        f"{len(ordered) - gained - lost} the same</text>"
        f'<text class="tick" x="{width - 8}" y="{height - 6}" text-anchor="end">{lost} lost</text>'
    )
    return _svg(width, height, f"{title}: {gained} gained, {lost} lost", parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> Markup:
    # Every part is made of numbers, fixed words, and names that were escaped where they were put in.
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Some four round values that enclose ``low`` and ``high``: steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * 4 >= span - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.2g}".replace("-", "−")
