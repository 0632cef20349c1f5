"""The page in a real browser: at phone and desktop width, without scripts, and printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sepolicyd.report.page import render
from tests.report.browser import Browser, installed
from tests.report.made import large, made

PROGRAM = installed()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed: make browser")
PHONE, DESK = 390, 1280

# WCAG 2.1 relative luminance; text of svg against every filled shape that its box meets
CONTRAST = """
(() => {
  const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const solid = color => color.length === 3 || color[3] === 1;
  const ground = node => {
    for (let n = node; n; n = n.parentElement) {
      const color = parse(getComputedStyle(n).backgroundColor);
      if (color.length >= 3 && solid(color)) return color;
    }
    return [255, 255, 255];
  };
  const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const found = [];
  let checked = 0;
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.tagName.toLowerCase() === 'title') continue;
    const style = getComputedStyle(node);
    const grounds = [ground(node)];
    let ink = parse(style.color);
    if (node.ownerSVGElement) {
      ink = parse(style.fill);
      const place = node.getBoundingClientRect();
      for (const shape of node.ownerSVGElement.querySelectorAll('rect')) {
        const fill = parse(getComputedStyle(shape).fill);
        if (fill.length === 3 && meets(place, shape.getBoundingClientRect())) grounds.push(fill);
      }
    }
    checked += 1;
    for (const color of grounds) {
      const value = ratio(ink, color);
      if (!(value >= 4.5)) found.push(`${value.toFixed(2)} ${node.tagName} ${style.color} ${node.textContent.slice(0, 40)}`);
    }
  }
  return [checked, found];
})()
"""
OVERFLOW = """
(() => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll('body *')].filter(
    node => node.checkVisibility() && node.getBoundingClientRect().right > root.clientWidth + 1);
  const named = wide.slice(0, 5).map(node => node.tagName + ' ' + node.textContent.slice(0, 60));
  return [root.scrollWidth - root.clientWidth, named];
})()
"""
OPEN_ALL = "document.querySelectorAll('details').forEach(one => { one.open = true; })"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM) as found:
        yield found


def lengthened(word: str) -> str:
    """Names of the log that are as long as a policy allows, and longer, without a place to break a line."""
    return word if " " in word else f"{word}_{'abcdefghij' * 14}"


@pytest.fixture(scope="module", params=["plain", "long", "large"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report: Any = {"plain": made, "long": lambda: made(lengthened), "large": lambda: large(300)}[request.param]()
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_wider_than_the_window(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.run("innerWidth") == width
    assert browser.run(OVERFLOW) == [0, []]
    browser.run(OPEN_ALL)
    assert browser.run(OVERFLOW) == [0, []]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_text_can_be_read(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    browser.run(OPEN_ALL)
    checked, found = browser.run(CONTRAST)
    assert checked > 100
    assert found == []


def test_the_check_of_contrast_sees_pale_text(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "pale.html"
    path.write_text(render(made()).replace("--soft: #505862", "--soft: #a0a8b0"), encoding="utf-8")
    browser.open(path, DESK)
    assert browser.run(CONTRAST)[1]


@pytest.mark.parametrize(("width", "shown"), [(PHONE, "narrow"), (DESK, "wide")])
def test_each_drawing_is_shown_once(browser: Browser, page: Path, width: int, shown: str) -> None:
    browser.open(page, width)
    classes = browser.run(
        "[...document.querySelectorAll('svg')].filter(one => one.checkVisibility()).map(one => one.classList[1])"
    )
    assert len(classes) >= 4
    assert set(classes) == {shown}


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_letters_of_drawings_are_large_enough(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    sizes = browser.run(
        "[...document.querySelectorAll('svg')].filter(one => one.checkVisibility()).flatMap(one => {"
        " const scale = one.getBoundingClientRect().width / one.viewBox.baseVal.width;"
        " return [...one.querySelectorAll('text')].map(text => scale * text.getAttribute('font-size')); })"
    )
    assert min(sizes) >= 9


def test_everything_is_there_without_scripts(browser: Browser, page: Path) -> None:
    browser.open(page, DESK)
    assert browser.run("document.scripts.length") == 0
    text = browser.run("document.body.innerText")
    for heading in ("Accesses allowed by decision", "Refused accesses", "Loaded versions", "Accesses from the base policy"):
        assert heading in text
    folded = browser.run("[...document.querySelectorAll('details')].filter(one => !one.open).length")
    browser.run("document.querySelectorAll('details:not([open]) > summary').forEach(one => one.click())")
    assert folded > 0
    assert browser.run("[...document.querySelectorAll('details')].filter(one => !one.open).length") == 0


def test_markup_of_a_log_is_text_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    attack = "\"'></td></svg><img src=x onerror='document.title=1'><script>document.title=1</script>"
    path.write_text(render(made(lambda word: word + attack)), encoding="utf-8")
    browser.open(path, DESK, script=True)
    assert browser.run("document.querySelectorAll('img, script').length") == 0
    assert browser.run("document.title").startswith("SELinux report")


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page, DESK)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 80
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        folded = browser.run(
            "[...document.querySelectorAll('details:not(.bulk):not([open]) > :not(summary)')]"
            ".filter(one => one.getBoundingClientRect().height === 0).length"
        )
        assert folded == 0
        assert browser.run(OVERFLOW) == [0, []]
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")
