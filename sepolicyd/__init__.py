"""Bring a service under SELinux: review the denials in the audit log and load a policy module."""

__version__ = "0.2.0"
