"""Preprocessor of ``analyze``: passes raw audit records through to the scan, and translates other text forms.

The dialects are imported only when the first other form occurs, so that they cost nothing for a plain audit log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Optional

from sepolicyd.audit.dialects import utf16
from sepolicyd.audit.dialects.dialect import Form, Refusal
from sepolicyd.audit.parse.denial import Denials

if TYPE_CHECKING:
    from sepolicyd.audit.dialects.translate import Translator

STRICT_BLOCKS = 4
PROBES = 16
_PLAIN = re.compile(rb"(?:node=[^ \n]+ )?type=[A-Z][A-Z0-9_]* msg=audit\(1[0-9.]+:[0-9]+\): ")


class Front:
    """Passes blocks of raw lines through, and gives others to a :class:`~sepolicyd.audit.dialects.translate.Translator`."""

    def __init__(self) -> None:
        self._last = b""
        self._lines_scanned: Callable[[], int] = int
        self._plain_blocks = 0
        self._utf16 = 0
        self._translator: Optional[Translator] = None

    def blocks(self, blocks: Iterator[bytes], lines_scanned: Callable[[], int]) -> Iterator[bytes]:
        """Yield blocks in which each line is a raw record or blank.

        :param lines_scanned: returns the number of lines that the scan has counted: all except those of the latest block
        """
        self._lines_scanned = lines_scanned
        for block in utf16.as_bytes_of_ascii(blocks, self._note_encoding):
            waiting = self._translator is not None and self._translator.is_waiting
            if not waiting and self._is_plain(block):
                self._last = block
                yield block
            elif translated := self._translating().feed(block):
                yield translated
        if self._translator is not None and (rest := self._translator.finish()):
            yield rest

    @property
    def found(self) -> list[Denials]:
        """The denials that the dialects have read themselves; complete after the last block."""
        return [] if self._translator is None else self._translator.found

    @property
    def has_records(self) -> bool:
        """Whether the text contains a record in a form other than auditd's."""
        return self._translator is not None and self._translator.has_records

    @property
    def forms(self) -> Counter[Form]:
        """Number of lines of each form other than auditd's."""
        forms: Counter[Form] = Counter() if self._translator is None else Counter(self._translator.forms)
        if self._utf16:
            forms[Form.UTF16] += self._utf16
        return forms

    @property
    def refusals(self) -> Mapping[Refusal, int]:
        """Counts of forms that lack information needed for a rule."""
        return {} if self._translator is None else self._translator.refusals

    @property
    def lines(self) -> int:
        """Number of lines in a form other than auditd's."""
        return sum(self.forms.values())

    def _note_encoding(self) -> None:
        self._utf16 += 1

    def _translating(self) -> Translator:
        if self._translator is None:
            from sepolicyd.audit.dialects.translate import Translator

            self._translator = Translator()
            self._translator.line = self._lines_scanned() + self._last.count(b"\n")
        return self._translator

    def _is_plain(self, block: bytes) -> bool:
        """Tell whether a block can pass unchanged.

        After a few blocks of raw lines only, a sample of each block is checked. Other text inside a large audit log is then
        left to the scan, which reports lines that it cannot read.
        """
        if not (looks_plain(block) if self._plain_blocks >= STRICT_BLOCKS else is_plain(block)):
            self._plain_blocks = 0
            return False
        self._plain_blocks += 1
        if self._translator is not None:
            self._translator.line += block.count(b"\n")
        return True


def is_plain(block: bytes) -> bool:
    """Tell whether every line of a block begins as auditd writes it, without marks of a web page or of ``ausearch -i``.

    The block is searched once per mark. The content of a value can only cause the answer False, which costs nothing but time.
    """
    lines = block.count(b"\n")
    return (
        block.endswith(b"\n")
        and block.startswith((b"type=", b"node="))
        and block.count(b"\ntype=") + block.count(b"\nnode=") == lines - 1
        and block.count(b" msg=audit(1") == lines
        and block.isascii()
        and b") :" not in block
        and b"&quot;" not in block
        and b"&nbsp;" not in block
    )


def looks_plain(block: bytes) -> bool:
    """Tell whether a sample of the block's lines begins as auditd writes them."""
    if not block.endswith(b"\n"):
        return False
    step = max(1, len(block) // PROBES)
    starts = {block.rfind(b"\n", 0, max(0, at)) + 1 for at in range(0, len(block), step)}
    starts.add(block.rfind(b"\n", 0, len(block) - 1) + 1)
    return all(_PLAIN.match(block, start) for start in starts)
