// SPDX-License-Identifier: GPL-2.0

//! Names for numbers: the types of ICMP, and the ports of services.

use crate::pure::rule::Family;

/// The types of ICMP that have a name, as nft and iptables call them.
///
/// See `include/uapi/linux/icmp.h`.
const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

/// The types of ICMPv6 that have a name, as nft and ip6tables call them.
///
/// See `include/uapi/linux/icmpv6.h` and `include/net/ndisc.h`.
const ICMP6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("router-solicitation", 133),
    ("nd-router-advert", 134),
    ("router-advertisement", 134),
    ("nd-neighbor-solicit", 135),
    ("neighbor-solicitation", 135),
    ("neighbour-solicitation", 135),
    ("nd-neighbor-advert", 136),
    ("neighbor-advertisement", 136),
    ("neighbour-advertisement", 136),
    ("nd-redirect", 137),
    ("redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];

/// The ports of services that people look for, by their names in `/etc/services` and by those of the
/// programs.
///
/// A port's name is never read, as hosts differ in what it means: it is for the hint.
const SERVICES: &[(&str, u16)] = &[
    ("bfd", 3784),
    ("bfd-control", 3784),
    ("bgp", 179),
    ("bootpc", 68),
    ("bootps", 67),
    ("dhcp", 67),
    ("dhcpv6-client", 546),
    ("dhcpv6-server", 547),
    ("dns", 53),
    ("domain", 53),
    ("domain-s", 853),
    ("etcd-client", 2379),
    ("etcd-server", 2380),
    ("ftp", 21),
    ("geneve", 6081),
    ("gtp-control", 2123),
    ("gtp-user", 2152),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap2", 143),
    ("imaps", 993),
    ("ipsec-nat-t", 4500),
    ("isakmp", 500),
    ("iscsi-target", 3260),
    ("kerberos", 88),
    ("kubelet", 10250),
    ("l2tp", 1701),
    ("ldap", 389),
    ("ldaps", 636),
    ("llmnr", 5355),
    ("mdns", 5353),
    ("memcache", 11211),
    ("memcached", 11211),
    ("microsoft-ds", 445),
    ("mqtt", 1883),
    ("mysql", 3306),
    ("netflow", 2055),
    ("nfs", 2049),
    ("node-exporter", 9100),
    ("ntp", 123),
    ("openvpn", 1194),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("redis", 6379),
    ("rsync", 873),
    ("rtsp", 554),
    ("sflow", 6343),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("smtp", 25),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("snmptrap", 162),
    ("ssh", 22),
    ("statsd", 8125),
    ("stun", 3478),
    ("submission", 587),
    ("sunrpc", 111),
    ("syslog", 514),
    ("syslog-tls", 6514),
    ("telnet", 23),
    ("tftp", 69),
    ("turn", 3478),
    ("vxlan", 4789),
    ("wireguard", 51820),
    ("zabbix-agent", 10050),
    ("zabbix-trapper", 10051),
];

/// Returns the names of the ICMP types of a family, each with its number.
pub(super) fn icmp_types(family: Family) -> &'static [(&'static str, u8)] {
    match family {
        Family::Ipv4 => ICMP_TYPES,
        Family::Ipv6 => ICMP6_TYPES,
    }
}

/// Returns the names of the ICMP types of a family, each with its number, for the test that holds the document
/// to them.
#[cfg(not(MODULE))]
pub fn icmp_type_names(family: Family) -> &'static [(&'static str, u8)] {
    icmp_types(family)
}

/// Returns the port of the service `name`, in upper or lower case.
pub(super) fn service(name: &[u8]) -> Option<u16> {
    let is = |(known, _): &&(&str, u16)| known.as_bytes().eq_ignore_ascii_case(name);
    SERVICES.iter().find(is).map(|(_, port)| *port)
}
