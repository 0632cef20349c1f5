"""Names of kernel and user-space object classes, to recognize a class name that a terminal has truncated."""

from __future__ import annotations

# security/selinux/include/classmap.h (6.12) and the reference policy's flask/security_classes.
_SOCKETS = """
alg appletalk atmpvc atmsvc ax25 bluetooth bridge dccp decnet icmp ieee802154 ipx irda isdn iucv kcm key llc mctp mpls
netlink netlink_audit netlink_connector netlink_crypto netlink_dnrt netlink_fib_lookup netlink_firewall netlink_generic
netlink_ip6fw netlink_iscsi netlink_kobject_uevent netlink_netfilter netlink_nflog netlink_rdma netlink_route
netlink_scsitransport netlink_selinux netlink_tcpdiag netlink_xfrm netrom nfc obsolete_netlink_firewall
obsolete_netlink_ip6fw packet phonet pppox qipcrtr rawip rds rose rxrpc sctp smc tcp tipc tun udp unix_dgram unix_stream
vsock x25 xdp
"""
_DATABASE = """
blob column database datatype exception language procedure schema sequence table tuple view
"""
_X_SERVER = """
application_data client colormap cursor device drawable event extension font gc keyboard pointer property resource
screen selection server synthetic_event
"""
_OTHERS = """
anon_inode association binder blk_file bpf cap2_userns cap_userns capability capability2 chr_file context dbus dir
drm_device drmservice fd fifo_file file filesystem hwservice_manager infiniband_endport infiniband_pkey io_uring ipc
kernel_service key keystore_key lnk_file lockdown memprotect msg msgq netif node nscd nvme_device packet passwd peer
perf_event print process process2 property_service proxy security sem service service_manager shm sock_file socket
system user_namespace
"""
KNOWN = frozenset(
    [
        *(f"{name}_socket" for name in _SOCKETS.split()),
        *(f"db_{name}" for name in _DATABASE.split()),
        *(f"x_{name}" for name in _X_SERVER.split()),
        *_OTHERS.split(),
    ]
)


def is_cut(name: str) -> bool:
    """Tell whether the name is not a known class but the beginning of one (``tcp_s``)."""
    return name not in KNOWN and any(known.startswith(name) for known in KNOWN)
