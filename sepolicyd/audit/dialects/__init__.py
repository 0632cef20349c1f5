"""Readers for audit records in other forms than auditd's: mails, web pages, the journal, reports of other tools.

``analyze`` runs :class:`preprocess.Front` before the scan; the daemon never imports this package. Such text has no trusted
origin, so its records are hints and not evidence.
"""
