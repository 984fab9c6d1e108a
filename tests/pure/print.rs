// SPDX-License-Identifier: GPL-2.0

//! The canonical text of rules. That it is read again as the same rule is tested with the parser.

use ctskip_pure::rule::Netns;
use ctskip_testkit::world::{
    netns,
    rule, //
};

/// The canonical text of rules, by hand.
#[test]
fn canonical_text() {
    for (written, canonical) in [
        ("udp dport=53", "skip udp dport=53"),
        ("any", "skip any"),
        ("track any", "track any"),
        ("any udp", "skip udp any"),
        ("udp dport=53 any", "skip udp dport=53"),
        ("ip6 udp any", "skip ip6 udp any"),
        ("ip icmp any", "skip icmp any"),
        ("icmp any", "skip icmp any"),
        ("icmp6 any ip6", "skip icmp6 any"),
        ("icmp6,icmp any", "skip icmp,icmp6 any"),
        ("ip icmp,tcp any", "skip ip icmp,tcp any"),
        ("ip udp dst=10.0.0.1/32", "skip udp dst=10.0.0.1"),
        ("ip6 udp dst=2001:DB8:0::0:1/128", "skip udp dst=2001:db8::1"),
        // What leaves nothing out does not make a rule narrow.
        ("udp dst=0.0.0.0/0 any", "skip udp dst=0.0.0.0/0 any"),
        ("udp src=0.0.0.0/1,128.0.0.0/2,192.0.0.0/2 any", "skip udp src=0.0.0.0/1,128.0.0.0/2,192.0.0.0/2 any"),
        ("udp src=0.0.0.0/1,128.0.0.0/2,224.0.0.0/3 any", "skip udp src=0.0.0.0/1,128.0.0.0/2,224.0.0.0/3"),
        ("udp dst=::/0 any", "skip udp dst=::/0 any"),
        ("udp dst=::/0 dport=53 any", "skip udp dst=::/0 dport=53"),
        ("tcp dport=0-65535 any", "skip tcp dport=0-65535 any"),
        ("tcp dport=1-65535 any", "skip tcp dport=1-65535 any"),
        ("tcp dport=2-65535 any", "skip tcp dport=2-65535"),
        ("tcp dport=0-65534 any", "skip tcp dport=0-65534"),
        ("tcp sport=1-9,5-6,10-65535 any", "skip tcp sport=1-9,5-6,10-65535 any"),
        ("tcp sport=1-9,5-6,11-65535 any", "skip tcp sport=1-9,5-6,11-65535"),
        ("icmp type=0-255 any", "skip icmp type=0-255 any"),
        ("icmp type=0-254 any", "skip icmp type=0-254"),
        // Prefixes, however they are written.
        ("udp dst=10.0.0.1-10.0.0.9", "skip udp dst=10.0.0.1,10.0.0.2/31,10.0.0.4/30,10.0.0.8/31"),
        ("udp dst=10.0.0.0-10.0.0.255", "skip udp dst=10.0.0.0/24"),
        ("udp dst=10.0.0.7-10.0.0.7,10.0.0.9", "skip udp dst=10.0.0.7,10.0.0.9"),
        ("udp src=0.0.0.0-255.255.255.255 any", "skip udp src=0.0.0.0/0 any"),
        ("udp dst=2001:db8::-2001:db8::1:ffff", "skip udp dst=2001:db8::/111"),
        ("udp dst=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff any", "skip udp dst=::/0 any"),
        ("udp dst=::-::ffff:255.255.255.255", "skip udp dst=::/80"),
        ("skip all", "skip any"),
        ("udp all", "skip udp any"),
        ("udp,tcp dport=053-53,7-9,7,7-9,1", "skip tcp,udp dport=1,7,7-9,53"),
        ("proto=17,6 dport=1", "skip tcp,udp dport=1"),
        ("proto=255,250 any", "skip proto=250,255 any"),
        ("proto=255,47 any", "skip gre,255 any"),
        ("tcp,3 any", "skip proto=3,tcp any"),
        ("tcp,2 any", "skip igmp,tcp any"),
        ("proto=2 any", "skip igmp any"),
        ("ip igmp any", "skip igmp any"),
        ("ip icmp,igmp any", "skip icmp,igmp any"),
        ("ip ah any", "skip ah any"),
        ("ip proto=59 any", "skip proto=59 any"),
        ("ip udp,ah any", "skip ip udp,ah any"),
        ("ip6 proto=112,89,103,115 any", "skip ip6 ospf,pim,vrrp,l2tp any"),
        ("proto=33,136,108,97,41 any", "skip dccp,sit,etherip,ipcomp,udplite any"),
        ("etherip any", "skip etherip any"),
        ("udplite dst=10.0.0.1", "skip udplite dst=10.0.0.1"),
        ("icmp type=8,0", "skip icmp type=0,8"),
        ("icmp type=echo-request,echo-reply,9-10", "skip icmp type=0,8,9-10"),
        ("type=echo-request,3 icmp6", "skip icmp6 type=3,128"),
        ("type=redirect proto=58", "skip icmp6 type=137"),
        ("udp any tag=kube-system/coredns:7", "skip udp any tag=kube-system/coredns:7"),
        ("udp mark=16", "skip udp mark=0x10"),
        ("udp mark=0X10/255", "skip udp mark=0x10/0xff"),
        ("udp mark=0", "skip udp mark=0x0"),
        ("udp mark=0/0xffffffff", "skip udp mark=0x0"),
        ("udp any dev=lo,eth*,eth", "skip udp dev=eth,eth*,lo any"),
        ("udp any netns=4026531833", "skip udp netns=init any"),
        ("udp any netns=pid:101", "skip udp netns=4026532001 any"),
        ("udp any netns!=init", "skip udp netns!=init any"),
        (
            "tag=a any oneway nat=ok netns=init mark=1 dev=e dport=2 sport=1 local=src dst=::2 src=::1 tcp skip",
            "skip tcp src=::1 dst=::2 sport=1 dport=2 local=src dev=e mark=0x1 netns=init nat=ok oneway tag=a",
        ),
        ("tcp flags=syn dport=80", "skip tcp dport=80 flags=syn"),
        ("tcp any flags=ack+syn+ack", "skip tcp flags=syn+ack any"),
        ("tcp any flags=syn/ack+rst+syn+fin", "skip tcp flags=syn any"),
        ("tcp any flags=syn/rst+syn", "skip tcp flags=syn/syn+rst any"),
        ("tcp any flags=psh/fin+syn+rst+psh+ack", "skip tcp flags=psh any"),
        ("tcp any flags=cwr+ece+urg/cwr+urg+ece", "skip tcp flags=urg+ece+cwr/urg+ece+cwr any"),
        ("tcp+flags=syn+ack/ack+syn+rst+dport=80", "skip tcp dport=80 flags=syn+ack/syn+rst+ack"),
        ("tcp+dport=80+flags=ack", "skip tcp dport=80 flags=ack"),
        ("tcp+dport=80+dev=eth*", "skip tcp dport=80 dev=eth*"),
        ("tcp dport=80 dev=a+b", "skip tcp dport=80 dev=a+b"),
        ("\t tcp\t dport=80 \r", "skip tcp dport=80"),
    ] {
        assert_eq!(rule(written).to_string(), canonical, "{written}");
        assert_eq!(rule(canonical).to_string(), canonical);
    }
    assert_eq!(rule("udp any netns=pid:1").netns(), Netns::Init);
    assert_eq!(rule("udp any netns=pid:103").netns(), Netns::Only(netns(3)));
}
