"""Build inline SVG from elements. Text and attribute values are escaped; layout assumes a monospaced font."""

from __future__ import annotations

from markupsafe import Markup, escape

from sepolicyd.report.visible import visible

CHAR = 0.602  # width of a character of a monospaced font, in font sizes


def element(name: str, *children: Markup, text: str = "", **attributes: object) -> Markup:
    """Build one element. An underscore in an attribute name stands for a hyphen; a trailing one is dropped.

    :param text: text of the element before its children; it is escaped
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        shown = f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    inner = escape(visible(text)) + Markup("").join(children)
    parts.append(f">{inner}</{name}>" if inner else "/>")
    return Markup("".join(parts))  # noqa: S704 every part was escaped above


def drawing(width: float, height: float, title: str, *children: Markup, kind: str = "") -> Markup:
    """Build a drawing with a title for screen readers."""
    return element(
        "svg", element("title", text=title), *children,
        class_=f"plot {kind}", viewBox=f"0 0 {width:.0f} {height:.0f}", width=f"{width:.0f}", height=f"{height:.0f}",
        role="img", aria_label=visible(title), xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def label(
    x: float, y: float, text: str, *, size: float = 12, anchor: str = "start", class_: str = "", room: float = 0
) -> Markup:
    """Build a line of text, shortened in the middle to fit into ``room`` (0: any length)."""
    shown = fitting(visible(text), room, size) if room else visible(text)
    whole = (element("title", text=text),) if shown != visible(text) else ()
    return element(
        "text", escape(shown), *whole, x=x, y=y, font_size=size, text_anchor=anchor, class_=class_ or "t"
    )  # fmt: skip


def fitting(text: str, room: float, size: float) -> str:
    """Shorten the text in the middle to fit into ``room`` units."""
    longest = max(3, int(room / (size * CHAR)))
    if len(text) <= longest:
        return text
    head = longest // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "axis") -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def box(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    return element("rect", x=x, y=y, width=max(0.0, width), height=max(0.0, height), class_=class_)
