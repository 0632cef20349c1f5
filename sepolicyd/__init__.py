"""Bring a service under SELinux: audit log in, reviewed and loaded policy module out."""

__version__ = "0.1.0"
