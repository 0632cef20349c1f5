"""A class name in, whether a terminal or a page has cut it: the classes that the kernel and the object managers know."""

from __future__ import annotations

# security/selinux/include/classmap.h (6.12) and the reference policy's flask/security_classes, user space included.
KNOWN = frozenset(
    """
    alg_socket anon_inode appletalk_socket association atmpvc_socket atmsvc_socket ax25_socket binder blk_file
    bluetooth_socket bpf bridge_socket cap2_userns cap_userns capability capability2 chr_file context db_blob db_column
    db_database db_exception db_language db_procedure db_schema db_sequence db_table db_tuple db_view db_datatype dbus
    dccp_socket decnet_socket dir drm_device fd fifo_file file filesystem icmp_socket ieee802154_socket infiniband_endport
    infiniband_pkey io_uring ipc ipx_socket irda_socket isdn_socket iucv_socket kcm_socket kernel_service key key_socket
    llc_socket lnk_file lockdown memprotect mctp_socket mpls_socket msg msgq netif netlink_audit_socket
    netlink_connector_socket netlink_crypto_socket netlink_dnrt_socket netlink_fib_lookup_socket netlink_firewall_socket
    netlink_generic_socket netlink_ip6fw_socket netlink_iscsi_socket netlink_kobject_uevent_socket
    netlink_netfilter_socket netlink_nflog_socket netlink_rdma_socket netlink_route_socket netlink_scsitransport_socket
    netlink_selinux_socket netlink_socket netlink_tcpdiag_socket netlink_xfrm_socket netrom_socket nfc_socket node nscd
    nvme_device obsolete_netlink_firewall_socket obsolete_netlink_ip6fw_socket packet packet_socket passwd peer perf_event phonet_socket pppox_socket
    print process process2 proxy qipcrtr_socket rawip_socket rds_socket rose_socket rxrpc_socket sctp_socket security sem
    service shm smc_socket sock_file socket system tcp_socket tipc_socket tun_socket udp_socket unix_dgram_socket
    unix_stream_socket user_namespace vsock_socket x25_socket x_application_data x_client x_colormap x_cursor x_device
    x_drawable x_event x_extension x_font x_gc x_keyboard x_pointer x_property x_resource x_screen x_selection x_server
    x_synthetic_event xdp_socket service_manager hwservice_manager property_service keystore_key drmservice
    """.split()
)


def is_cut(name: str) -> bool:
    """Whether the name is no class that is known but the beginning of one (``tcp_s``)."""
    return name not in KNOWN and any(known.startswith(name) for known in KNOWN)
