"""The page: text never becomes markup, nothing is loaded from elsewhere, and the size stays small."""

from __future__ import annotations

import re
import time
import unicodedata
from html.parser import HTMLParser
from typing import Optional

import pytest

from sepolicyd.report.page import render
from sepolicyd.report.visible import visible
from tests.report.made import large, made

HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "</style></svg></title></td></table><h1>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!-- --!><![CDATA[",
    "&lt;b&gt;&#60;i&#62;&amp;",
    "\u202edetrever\u2066\u200b\u200d\ufeff",
    "a\x1b[31m\x00\x07\r\n\tb",
    "\u0430\u0435\u043e\udce2\U000e0041",
    "url(http://evil/) @import 'x' javascript:alert(1)",
)


class Structure(HTMLParser):
    """Tags with the names of their attributes, and the values of attributes that could load or run something."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: set[str] = set()
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links |= {
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset", "action", "data")
        }

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", ()))

    def handle_decl(self, decl: str) -> None:
        self.tags.append(("declaration", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_does_not_change_the_structure(hostile: str) -> None:
    """The same tags and attributes in the same order as with harmless words of the same length."""
    harmless = "x" * len(visible(hostile))
    shape = Structure(render(made(lambda word: f"{word}{harmless}"))).tags
    assert len(shape) > 300
    assert Structure(render(made(lambda word: f"{word}{hostile}"))).tags == shape


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_invisible_character_reaches_the_page(hostile: str) -> None:
    page = render(made(lambda word: f"{word}{hostile}"))
    page.encode("utf-8")
    hidden = {char for char in page if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")}
    assert hidden <= {"\n"}


def test_hostile_text_is_shown_and_not_dropped() -> None:
    text = "".join(Structure(render(made(lambda word: f"{word}<b>"))).text)
    for word in ("svc_t<b>", "needed<b>", "first look<b>", "all done<b>", "history.jsonl: line 1 was changed<b>"):
        assert word in text, word


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = render(made())
    found = Structure(page)
    assert all(link.startswith("#") for link in found.links)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object", "embed", "img", "form", "base"}
    assert not [name for _, names in found.tags for name in names if name.startswith("on") or name == "style"]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert len(style) > 1000
    assert not re.search(r"url\(|@import|expression\(", style)
    assert "default-src 'none'" in page


def test_every_link_in_the_page_has_its_place() -> None:
    page = render(made())
    assert {f"#{name}" for name in re.findall(r'id="([a-z]+)"', page)} >= Structure(page).links


def test_a_report_of_an_empty_rollout_is_a_page() -> None:
    empty = made(
        grants=(), refusals=(), silenced=(), pending=(), changes=(), leases=(), reach=(), faults=(), version=0, policy="",
    )  # fmt: skip
    text = " ".join(" ".join(Structure(render(empty)).text).split())
    for words in ("No access has been allowed", "No access was refused", "No version was loaded", "No lease is recorded"):
        assert words in text


def test_ten_thousand_accesses_are_written_quickly_and_small() -> None:
    report = large(10_000)
    began = time.process_time()
    page = render(report).encode()
    assert time.process_time() - began < 5
    assert len(page) < 5_000_000
    assert page.count(b"<tr>") > 10_000


@pytest.mark.parametrize("text", ["\u201cOperating systems\u201d \u2013 5 \u20ac", "plain", "caf\u00e9"])
def test_what_people_type_stays_readable(text: str) -> None:
    assert visible(text) == text
