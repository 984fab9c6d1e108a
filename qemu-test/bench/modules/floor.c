// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark's floor: the least that a hook in C costs in ctskip's place, by what it does.
 *
 *     mode=0  nothing
 *     mode=1  every packet is untracked
 *     mode=2  those are untracked whose (source address, destination port) is in a hash of n, or
 *             exchanged: the same keys as those of the benchmark's exact rules
 */
#include <linux/ip.h>
#include <linux/jhash.h>
#include <linux/module.h>
#include <linux/netfilter_ipv4.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>

#define FIRST 0x0a400000 /* 10.64.0.0, and so on */
#define LAST 0x0a090001 /* the last key's: 10.9.0.1 */
#define PORT 5000

static int mode;
module_param(mode, int, 0444);
static unsigned int n = 1;
module_param(n, uint, 0444);

struct entry {
	struct hlist_node node;
	__be32 address;
	__be16 port;
};

static struct hlist_head *table;
static struct entry *entries;
static u32 mask, seed;

static struct hlist_head *place(__be32 address, __be16 port)
{
	return &table[jhash_2words((__force u32)address, (__force u32)port, seed) & mask];
}

static bool known(__be32 address, __be16 port)
{
	struct entry *entry;

	hlist_for_each_entry_rcu(entry, place(address, port), node)
		if (entry->address == address && entry->port == port)
			return true;
	return false;
}

static unsigned int nothing(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

static unsigned int always(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	if (!skb_get_nfct(skb))
		nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	return NF_ACCEPT;
}

static unsigned int by_hash(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	const struct iphdr *ip = ip_hdr(skb);
	const struct udphdr *udp;
	struct udphdr room;

	if (skb_get_nfct(skb) || ip->protocol != IPPROTO_UDP || ip_is_fragment(ip))
		return NF_ACCEPT;
	udp = skb_header_pointer(skb, skb_network_offset(skb) + ip_hdrlen(skb),
				 sizeof(room), &room);
	if (udp && (known(ip->saddr, udp->dest) || known(ip->daddr, udp->source)))
		nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	return NF_ACCEPT;
}

static struct nf_hook_ops hook = {
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
	.priority = NF_IP_PRI_RAW + 1,
};

static int fill(void)
{
	unsigned int i;

	mask = roundup_pow_of_two(n * 2) - 1;
	seed = get_random_u32();
	table = kvcalloc(mask + 1, sizeof(*table), GFP_KERNEL);
	entries = kvcalloc(n, sizeof(*entries), GFP_KERNEL);
	if (!table || !entries)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		entries[i].address = htonl(i + 1 < n ? FIRST + i : LAST);
		entries[i].port = htons(PORT);
		hlist_add_head(&entries[i].node, place(entries[i].address, entries[i].port));
	}
	return 0;
}

static int __init floor_init(void)
{
	int err = mode == 2 ? fill() : 0;

	hook.hook = mode == 0 ? nothing : mode == 1 ? always : by_hash;
	if (!err)
		err = nf_register_net_hook(&init_net, &hook);
	if (err) {
		kvfree(table);
		kvfree(entries);
	}
	return err;
}

static void __exit floor_exit(void)
{
	nf_unregister_net_hook(&init_net, &hook);
	kvfree(table);
	kvfree(entries);
}

module_init(floor_init);
module_exit(floor_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ctskip benchmark: what a hook costs at least");
