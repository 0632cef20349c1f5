"""The forms of text that dialects read, and what a reader of one is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Union

from sepolicyd.audit.model import Unparsed
from sepolicyd.audit.parse.record import Record


class Form(str, Enum):
    """A form of text other than auditd's; the value is its name in messages."""

    PASTED = "records in a mail, a page, the journal or of ausearch -i"
    FOLDED = "records broken over lines"
    JOURNAL = "entries of journalctl"
    ALERT = "alerts of sealert"
    TABLE = "tables of aureport or ausearch --format csv"
    UTF16 = "text in UTF-16"


class Refusal(str, Enum):
    """A form that does not hold what a rule needs; the value is the sentence with what to give instead."""

    CSV = (
        "ausearch --format csv names neither the permission nor the class of a denial: "
        "give the output of `ausearch --raw -m AVC,USER_AVC,SELINUX_ERR`"
    )
    TEXT = (
        "ausearch --format text names neither the contexts nor the permission of a denial: "
        "give the output of `ausearch --raw -m AVC,USER_AVC,SELINUX_ERR`"
    )
    ALERT = (
        "an alert of sealert without its raw audit message lacks a context, the class or the permission: "
        "give `sealert -l ID` in full, or the output of `ausearch --raw -m AVC`"
    )
    REPORT = (
        "this report of aureport holds no denials: "
        "give `aureport --avc`, or better the output of `ausearch --raw -m AVC,USER_AVC,SELINUX_ERR`"
    )
    JOURNAL = (
        "entries of the journal without their text (journalctl leaves it out where it is long): "
        "give `journalctl --all -o json`, or the output of `ausearch --raw -m AVC`"
    )


Found = Sequence[Union[Record, Unparsed]]


class Reader:
    """Reads one form that stretches over several lines. Lines come in order; each is read by one reader at most."""

    form: Form

    def __init__(self) -> None:
        self.refusals: dict[Refusal, int] = {}
        """How often something was met that does not hold what a rule needs."""

    def refuse(self, refusal: Refusal) -> None:
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1

    def wants(self, line: str) -> bool:
        """Whether the line is of this form."""
        raise NotImplementedError

    def read(self, line: str) -> Found:
        """What is complete with this line."""
        raise NotImplementedError

    def beside(self, _line: str) -> Found:
        """What is complete before a line of no form."""
        return []

    def record(self, _line: str) -> None:
        """Take notice of a record that stands in the text."""

    def end(self) -> Found:
        """What is complete at the end of the text."""
        return []
