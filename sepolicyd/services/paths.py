"""Directory trees shared by several services. Single files in them may be relabelled, the trees may not."""

from __future__ import annotations

_SHARED = """
/ /bin /boot /dev /etc /home /lib /lib64 /mnt /opt /proc /root /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib
/usr/local /usr/local/bin /usr/local/etc /usr/local/lib /usr/sbin /usr/share /var /var/lib /var/lib/private /var/log
/var/run /var/spool /var/tmp /etc/ssl /etc/ssl/certs /etc/ssl/private /etc/pki /etc/pki/tls /etc/pki/tls/private
/etc/letsencrypt /etc/systemd /etc/default /etc/sysconfig /var/cache
"""
SHARED = frozenset(_SHARED.split())
USERS_TREES = ("/home/", "/root/", "/tmp/", "/var/tmp/")  # noqa: S108 named to be refused
SHARED_KEYS = ("/etc/letsencrypt/", "/etc/pki/", "/etc/ssl/")
"""Directories of TLS keys that several services may use."""
