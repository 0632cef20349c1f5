"""Forms in which people pass audit records on: mails, web pages, journals, reports of other tools.

``analyze`` puts :class:`front.Front` before the scan; the daemon never imports this package. Anybody can write such text:
what is read here is a suggestion of where to look, and proves nothing.
"""
