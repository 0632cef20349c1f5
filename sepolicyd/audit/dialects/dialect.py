"""The text forms that dialects read, and the base class of their readers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Union

from sepolicyd.audit.model import Unparsed
from sepolicyd.audit.parse.record import Record


class Form(str, Enum):
    """A text form other than auditd's; the value is its name in messages."""

    PASTED = "records from a mail, a web page, the journal or ausearch -i"
    FOLDED = "records wrapped over several lines"
    JOURNAL = "entries of journalctl"
    ALERT = "alerts of sealert"
    TABLE = "tables of aureport or ausearch --format csv"
    UTF16 = "text in UTF-16"


class Refusal(str, Enum):
    """A form that lacks information needed for a rule; the value is a message with the form to use instead."""

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
        "give the full output of `sealert -l ID`, or the output of `ausearch --raw -m AVC`"
    )
    REPORT = (
        "this report of aureport contains no denials: "
        "give the output of `aureport --avc`, or preferably of `ausearch --raw -m AVC,USER_AVC,SELINUX_ERR`"
    )
    JOURNAL = (
        "journal entries without their message (journalctl omits long ones): "
        "give the output of `journalctl --all -o json`, or of `ausearch --raw -m AVC`"
    )


Found = Sequence[Union[Record, Unparsed]]


class Reader:
    """Base class of readers for one form that spans several lines. Each line goes to one reader at most, in order."""

    form: Form

    def __init__(self) -> None:
        self.refusals: dict[Refusal, int] = {}
        """Number of entries without the information needed for a rule, by reason."""

    def refuse(self, refusal: Refusal) -> None:
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1

    def wants(self, line: str) -> bool:
        """Tell whether the line is of this form."""
        raise NotImplementedError

    def read(self, line: str) -> Found:
        """Read a line of this form, and return the records that it completes."""
        raise NotImplementedError

    def beside(self, _line: str) -> Found:
        """Return the records that are complete before a line of no form."""
        return []

    def record(self, _line: str) -> None:
        """Note that the text contains a record."""

    def end(self) -> Found:
        """Return the records that are complete at the end of the text."""
        return []
