"""Drawings of a report: reach of the domains before and after, the curve of new accesses, and the leases."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Optional

from markupsafe import Markup

from sepolicyd.cli.terminal import duration
from sepolicyd.report.model import DomainReach, Edge, LeaseRecord
from sepolicyd.report.svg import CHAR, box, drawing, element, fitting, label, line
from sepolicyd.report.visible import visible
from sepolicyd.rollout.learning.chao2 import Unseen
from sepolicyd.rollout.learning.readiness import Readiness

Point = tuple[float, float]
WIDE, NARROW = 1040.0, 340.0
MAX_TARGETS = 24
MAX_LEASES = 30
COLOURS = 6  # classes d0 to d5 of the style sheet


def reach_graph(reach: Sequence[DomainReach], width: float) -> Optional[Markup]:
    """Draw domains on the left and their gained types on the right, with a line for each; return None without gains."""
    rows = _rows(reach)
    if not rows:
        return None
    narrow = width < 600
    size, step = (11.0, 19.0) if narrow else (13.0, 24.0)
    left, right = (128.0, width - 146.0) if narrow else (250.0, width - 450.0)
    top = 34.0
    height = top + step * max(len(rows), 3 * len(reach)) + 8
    heading = "gained on" if narrow else "type that it has gained on"
    parts = [label(0, 14, "domain", size=size, class_="m"), label(right + 6, 14, heading, size=size, class_="m")]
    places = {target: top + step * (number + 0.5) for number, target in enumerate(rows)}
    spread = (height - top) / len(reach)
    for number, one in enumerate(reach):
        y, colour = top + spread * (number + 0.5), f"d{number % COLOURS}"
        for edge in _shown(one, rows):
            parts.append(_line(one.domain, edge, (left, y), (right, places[edge.target]), colour))
        parts += _domain(one, y, left, size, colour)
    for target, y in places.items():
        parts += _target(*rows[target], (right, y), width - right - 8, size)
    title = f"Gains of {len(reach)} domains: {len(rows)} types"
    return drawing(width, height, title, *parts, kind="narrow" if narrow else "wide")


def _line(domain: str, edge: Edge, start: Point, end: Point, colour: str) -> Markup:
    middle = (start[0] + end[0]) / 2
    path = f"M{start[0]:.0f} {start[1]:.1f} C{middle:.0f} {start[1]:.1f} {middle:.0f} {end[1]:.1f} {end[0]:.0f} {end[1]:.1f}"
    note = element("title", text=f"{domain} on {edge.target}: {edge.text}")
    return element("path", note, d=path, class_=f"edge{' widened' if edge.widened else ''} {colour}")


def _target(name: str, permissions: str, place: Point, room: float, size: float) -> list[Markup]:
    """Return a type on the right, with the permissions where there is room for them."""
    x, y = place[0] + 8, place[1] + size * 0.35
    parts = [element("circle", cx=place[0], cy=place[1], r=3, class_="dot"), label(x, y, name, size=size, room=room)]
    taken = size * CHAR * (len(visible(name)) + 1)
    if permissions and room > 300 and room - taken > 60:
        parts.append(label(x + taken, y, permissions, size=size * 0.9, class_="m", room=room - taken))
    return parts


def _domain(one: DomainReach, y: float, left: float, size: float, colour: str) -> list[Markup]:
    before, after = sum(one.before.values()), sum(one.after.values())
    more = sum(edge.accesses for edge in one.edges)
    text = f"{before} \u2192 {after} types" + ("" if left < 200 else f", +{more} accesses")
    height = size * 2.9
    return [
        element("rect", x=0, y=y - height / 2, width=left, height=height, rx=4, class_=f"node {colour}"),
        label(8, y - size * 0.25, one.domain, size=size, class_="b", room=left - 14),
        label(8, y + size * 0.95, text, size=size * 0.92, class_="m", room=left - 14),
    ]


REST = "…"


def _rows(reach: Sequence[DomainReach]) -> dict[str, tuple[str, str]]:
    """Return (name, permissions) of each row on the right by type: the largest gains, and one row for all others."""
    weight: dict[str, int] = {}
    texts: dict[str, set[str]] = {}
    first: dict[str, int] = {}
    for number, one in enumerate(reach):
        for edge in one.edges:
            weight[edge.target] = weight.get(edge.target, 0) + edge.accesses
            texts.setdefault(edge.target, set()).add(edge.text)
            first.setdefault(edge.target, number)
    kept = sorted(weight, key=lambda target: (-weight[target], target))[:MAX_TARGETS]
    rows = {}
    for target in sorted(kept, key=lambda target: (first[target], target)):  # by domain, to reduce crossing lines
        rows[target] = (f"{target} ({weight[target]})", " / ".join(sorted(texts[target])))
    if len(weight) > len(kept):
        rows[REST] = (f"{len(weight) - len(kept)} more types", "")
    return rows


def _shown(one: DomainReach, rows: Collection[str]) -> list[Edge]:
    shown = [edge for edge in one.edges if edge.target in rows]
    rest = [edge for edge in one.edges if edge.target not in rows]
    if rest:
        new = all(edge.widened for edge in rest)
        accesses = sum(edge.accesses for edge in rest)
        shown.append(replace(rest[0], target=REST, widened=new, text=f"{accesses} accesses on {len(rest)} more types"))
    return shown


def reach_bars(one: DomainReach, width: float) -> Markup:
    """Draw two bars for each kind of object: the types reached without the module, and with it."""
    narrow = width < 600
    size = 11.0 if narrow else 13.0
    left, room = (0.0, width) if narrow else (230.0, width - 230.0)
    rows = [kind for kind in one.after if one.after[kind]]
    most = max((one.after[kind] for kind in rows), default=1)
    bar = room - 96
    step = 50.0 if narrow else 40.0
    parts = []
    for number, kind in enumerate(rows):
        y = 6 + step * number
        before, after = one.before[kind], one.after[kind]
        parts.append(label(0, y + (11 if narrow else 19), kind.value, size=size))
        y += 16 if narrow else 0
        for offset, count, style in ((0.0, before, "bar0"), (15.0, after, "bar1")):
            length = max(2.0 if count else 0.0, bar * count / most)
            parts.append(box(left, y + offset, length, 12, style))
        gained = f"+{after - before}" if after > before else "no new type"
        parts.append(
            label(left + bar * max(before, after) / most + 6, y + 10, f"{before} before", size=size * 0.88, class_="m")
        )
        parts.append(label(left + bar * max(before, after) / most + 6, y + 25, f"{gained}", size=size * 0.88, class_="b"))
    title = f"Types that {one.domain} reaches before and after"
    return drawing(width, 8 + step * len(rows), title, *parts, kind="narrow" if narrow else "wide")


@dataclass(frozen=True)
class _Frame:
    """Position of the axes, in units of the drawing."""

    left: float
    right: float
    base: float
    steps: int
    top: float
    """Count at the upper end of the axis."""

    def x(self, number: int) -> float:
        return self.left + (self.right - self.left) * (number + 0.5) / self.steps

    def y(self, count: float) -> float:
        return self.base - (self.base - 24) * min(count, self.top) / self.top


def learning_curve(readiness: Readiness, width: float) -> Optional[Markup]:
    """Draw the accesses seen after each exercise, with the estimated total; return None for fewer than two exercises."""
    steps = readiness.curve
    if len(steps) < 2:
        return None
    narrow = width < 600
    size, height, left, base = (11.0, 240.0, 34.0, 206.0) if narrow else (13.0, 320.0, 52.0, 276.0)
    totals = list(accumulate(step.new for step in steps))
    upper = readiness.unseen.upper if readiness.unseen else 0.0
    # the upper bound may be far away: the axis ends at twice the number of seen accesses
    frame = _Frame(
        left, width - (8 if narrow else 200), base, len(steps), max(totals[-1] * 1.15, min(upper, totals[-1] * 2.0), 1.0)
    )
    parts = [line(left, base, frame.right, base), line(left, 20, left, base)]
    for count in (0.0, totals[-1] / 2, totals[-1]):
        parts.append(label(left - 5, frame.y(count) + 4, f"{count:.0f}", size=size, anchor="end", class_="m"))
    if readiness.unseen is not None:
        parts += _estimate(frame, readiness.unseen, size, narrow=narrow)
    points = " ".join(f"{frame.x(number):.1f},{frame.y(total):.1f}" for number, total in enumerate(totals))
    parts.append(element("polyline", points=points, class_="curve"))
    skip = max(1, len(steps) * 22 // int(frame.right - left) + 1)
    for number, (step, total) in enumerate(zip(steps, totals)):
        note = element("title", text=f"{number + 1}. {step.name}: {step.new} new, {total} in all")
        parts.append(element("circle", note, cx=frame.x(number), cy=frame.y(total), r=4, class_="point"))
        if number % skip == 0:
            parts.append(label(frame.x(number), base + size + 5, f"{number + 1}", size=size, anchor="middle", class_="m"))
    if not narrow:
        parts.append(label(frame.right + 8, frame.y(totals[-1]) + 4, f"seen: {totals[-1]}", size=size, class_="b"))
    parts.append(label(left, 12, "accesses seen so far", size=size, class_="m"))
    caption = "exercises in order of time"
    parts.append(label(frame.right, height - 4, caption, size=size, anchor="end", class_="m"))
    title = f"{totals[-1]} accesses seen in {len(steps)} exercises"
    return drawing(width, height, title, *parts, kind="narrow" if narrow else "wide")


def _estimate(frame: _Frame, unseen: Unseen, size: float, *, narrow: bool) -> list[Markup]:
    """Draw the estimated total as a line, its interval as a band."""
    y, upper = frame.y(unseen.total), frame.y(unseen.upper)
    text = f"estimate: {unseen.total:.0f}" if narrow else f"estimated in all: {unseen.total:.0f}"
    at, anchor = (frame.right, "end") if narrow else (frame.right + 8, "start")
    return [
        box(frame.left, upper, frame.right - frame.left, max(2.0, frame.y(unseen.lower) - upper), "band"),
        line(frame.left, y, frame.right, y, "estimate"),
        label(at, y + (-5 if narrow else 4), text, size=size, anchor=anchor, class_="b"),
    ]


def lease_bars(leases: Sequence[LeaseRecord], names: Sequence[str], now: float, width: float) -> Optional[Markup]:
    """Draw a bar for each of the last leases: its length, the unused part, and the start of its exercises.

    :param names: formatted date of each lease
    """
    shown = list(zip(leases, names))[-MAX_LEASES:]
    longest = max((max(one.seconds(now), one.deadline - one.opened) for one, _ in shown), default=0.0)
    if longest <= 0:
        return None
    narrow = width < 600
    size = 11.0 if narrow else 13.0
    left, top, step = (0.0, 4.0, 44.0) if narrow else (170.0, 6.0, 34.0)
    room = width - left - (6 if narrow else 130)
    parts = []
    for number, (one, name) in enumerate(shown):
        y = top + step * number
        length = duration(one.seconds(now)) + (" so far" if one.ended is None else "")
        if narrow:
            parts.append(label(0, y + 11, f"{name}, {length}", size=size, room=width))
            y += 15
        else:
            parts.append(label(0, y + 15, name, size=size, room=left - 8))
        scale = room / longest
        end = left + scale * one.seconds(now)
        planned = left + scale * max(0.0, one.deadline - one.opened)
        parts.append(box(left, y + 3, planned - left, 15, "planned"))
        parts.append(box(left, y + 3, max(2.0, end - left), 15, "whole" if one.whole_system else "lease"))
        for mark, at in one.marks:
            place = left + scale * min(max(0.0, at - one.opened), longest)
            tick = element("title", text=f"exercise: {mark}")
            parts.append(element("line", tick, x1=place, y1=y, x2=place, y2=y + 21, class_="tick"))
        if not narrow:
            parts.append(label(max(end, planned) + 8, y + 15, fitting(length, 122, size), size=size, class_="b"))
    title = f"Length of the last {len(shown)} leases"
    return drawing(width, top + step * len(shown), title, *parts, kind="narrow" if narrow else "wide")
