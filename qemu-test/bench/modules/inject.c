// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark's traffic and its meter: packets from a list go up the receive path one by one, and
 * the time stamp counter is read before and after each. In a guest whose clock counts instructions
 * the difference is the number of instructions that the packet took, to the instruction: interrupts
 * are off meanwhile, and the packet is made before.
 *
 * /proc/inject/packets  write: the list anew, as an array of struct flow
 * /proc/inject/run      write: a command
 *                           conntrack   turn connection tracking on, for good
 *                           drop N      send the list N times; drop each behind conntrack
 *                           confirm N   the same, and let each make its entry
 *                           pass N      the same, and let each go on, to be forwarded
 *                           clock N     time a loop of 2 N instructions instead
 *                       read: what the last command found
 * /proc/inject/costs    read: what each packet took, as an array of u32
 *                       write: the same of an earlier run, to compare the next one with
 */
#include <linux/etherdevice.h>
#include <linux/icmp.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/module.h>
#include <linux/netfilter_ipv4.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <linux/vmalloc.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_core.h>
#include <asm/tsc.h>

#define MOST 65536 /* packets in the list */
#define LENGTH 46 /* of a packet, without the Ethernet header */

struct flow {
	__be32 src;
	__be32 dst;
	__be16 sport;
	__be16 dport; /* ICMP: its type, with sport as the identifier */
	u8 proto;
	u8 pad[3];
};

static char *dev = "d0";
module_param(dev, charp, 0444);
MODULE_PARM_DESC(dev, "the device that the packets come in by");

static struct net_device *in;
static struct flow *list;
static size_t filled;
static u32 *costs, *reference;
static enum { DROP, CONFIRM, PASS } mode;
static u64 sum;
static unsigned long done;
static s64 most; /* over the reference */

/* How conntrack left the packets: by enum ip_conntrack_info, and from 8 on those with an entry. */
static unsigned long states[16];

static unsigned int behind_conntrack(void *priv, struct sk_buff *skb,
				     const struct nf_hook_state *state)
{
	unsigned long ct = skb_get_nfct(skb);

	states[(ct & NFCT_INFOMASK) | (ct & NFCT_PTRMASK ? 8 : 0)]++;
	if (mode == CONFIRM)
		nf_conntrack_confirm(skb);
	return mode == PASS ? NF_ACCEPT : NF_DROP;
}

static const struct nf_hook_ops hook = {
	.hook = behind_conntrack,
	.pf = NFPROTO_IPV4,
	.hooknum = NF_INET_PRE_ROUTING,
	.priority = NF_IP_PRI_CONNTRACK + 50,
};

static void fill_transport(void *to, const struct flow *flow)
{
	struct icmphdr *icmp = to;
	struct tcphdr *tcp = to;
	struct udphdr *udp = to;

	switch (flow->proto) {
	case IPPROTO_TCP:
		tcp->source = flow->sport;
		tcp->dest = flow->dport;
		tcp->doff = sizeof(*tcp) / 4;
		tcp->ack = 1;
		tcp->window = htons(1024);
		break;
	case IPPROTO_ICMP:
		icmp->type = ntohs(flow->dport);
		icmp->un.echo.id = flow->sport;
		break;
	default:
		udp->source = flow->sport;
		udp->dest = flow->dport;
		udp->len = htons(LENGTH - sizeof(struct iphdr));
	}
}

static struct sk_buff *packet_of(const struct flow *flow)
{
	struct sk_buff *skb = netdev_alloc_skb_ip_align(in, ETH_HLEN + LENGTH);
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!skb)
		return NULL;
	eth = skb_put_zero(skb, ETH_HLEN + LENGTH);
	ether_addr_copy(eth->h_dest, in->dev_addr);
	eth->h_source[0] = 2;
	eth->h_proto = htons(ETH_P_IP);
	ip = (void *)(eth + 1);
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->ttl = 32;
	ip->tot_len = htons(LENGTH);
	ip->protocol = flow->proto;
	ip->saddr = flow->src;
	ip->daddr = flow->dst;
	ip_send_check(ip);
	fill_transport(ip + 1, flow);
	skb->ip_summed = CHECKSUM_UNNECESSARY; /* as a network card leaves it */
	skb->protocol = eth_type_trans(skb, in);
	return skb;
}

static int send(size_t i)
{
	struct sk_buff *skb = packet_of(&list[i]);
	unsigned long flags;
	u64 took;

	if (!skb)
		return -ENOMEM;
	local_irq_save(flags);
	took = rdtsc();
	netif_receive_skb(skb);
	took = rdtsc() - took;
	local_irq_restore(flags);

	sum += took;
	costs[i] = took;
	most = max(most, (s64)took - reference[i]);
	done++;
	return 0;
}

static void reset(void)
{
	memset(states, 0, sizeof(states));
	sum = 0;
	most = S64_MIN;
	done = 0;
}

static int send_all(unsigned int times)
{
	int err = 0;
	size_t i;

	reset();
	while (times--) {
		for (i = 0; i < filled / sizeof(*list) && !err; i++) {
			local_bh_disable();
			err = send(i);
			local_bh_enable();
			cond_resched();
		}
	}
	return err;
}

static void clock(unsigned long count)
{
	unsigned long flags;
	u64 start;

	reset();
	local_irq_save(flags);
	start = rdtsc();
	asm volatile("1: dec %0\n\tjnz 1b" : "+r"(count) : : "cc");
	sum = rdtsc() - start;
	local_irq_restore(flags);
}

static ssize_t run_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	char text[32] = "", verb[16];
	unsigned int count = 1;
	int err = 0;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	if (sscanf(text, "%15s %u", verb, &count) < 1 || !count)
		return -EINVAL;
	if (!strcmp(verb, "conntrack")) {
		err = nf_ct_netns_get(&init_net, NFPROTO_IPV4);
	} else if (!strcmp(verb, "clock")) {
		clock(count);
	} else if (!strcmp(verb, "drop") || !strcmp(verb, "confirm") || !strcmp(verb, "pass")) {
		mode = verb[0] == 'd' ? DROP : verb[0] == 'c' ? CONFIRM : PASS;
		err = send_all(count);
	} else {
		err = -EINVAL;
	}
	return err ?: size;
}

static int run_show(struct seq_file *out, void *v)
{
	const unsigned long *entry = states + 8;

	seq_printf(out, "packets=%lu sum=%llu most=%lld", done, sum, most);
	seq_printf(out, " none=%lu untracked=%lu new=%lu established=%lu related=%lu\n", states[0],
		   states[IP_CT_UNTRACKED], entry[IP_CT_NEW],
		   entry[IP_CT_ESTABLISHED] + entry[IP_CT_ESTABLISHED_REPLY],
		   entry[IP_CT_RELATED] + entry[IP_CT_RELATED_REPLY]);
	return 0;
}

static int run_open(struct inode *inode, struct file *file)
{
	return single_open(file, run_show, NULL);
}

static const struct proc_ops run_ops = {
	.proc_open = run_open,
	.proc_read = seq_read,
	.proc_write = run_write,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

static int packets_open(struct inode *inode, struct file *file)
{
	filled = 0;
	return 0;
}

static ssize_t append(void *to, size_t room, size_t *used, const char __user *from, size_t size)
{
	if (size > room - *used)
		return -ENOSPC;
	if (copy_from_user(to + *used, from, size))
		return -EFAULT;
	*used += size;
	return size;
}

static ssize_t packets_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	return append(list, MOST * sizeof(*list), &filled, from, size);
}

static const struct proc_ops packets_ops = {
	.proc_open = packets_open,
	.proc_write = packets_write,
};

static int costs_open(struct inode *inode, struct file *file)
{
	if (file->f_mode & FMODE_WRITE)
		memset(reference, 0, MOST * sizeof(*reference));
	return 0;
}

static ssize_t costs_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	return simple_read_from_buffer(to, size, pos, costs,
				       filled / sizeof(*list) * sizeof(*costs));
}

static ssize_t costs_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	size_t used = *pos;
	ssize_t taken = append(reference, MOST * sizeof(*reference), &used, from, size);

	*pos = used;
	return taken;
}

static const struct proc_ops costs_ops = {
	.proc_open = costs_open,
	.proc_read = costs_read,
	.proc_write = costs_write,
};

static void undo(void)
{
	remove_proc_subtree("inject", NULL);
	vfree(list);
	vfree(costs);
	vfree(reference);
	if (in)
		dev_put(in);
}

static int __init inject_init(void)
{
	struct proc_dir_entry *folder = proc_mkdir("inject", NULL);
	int err;

	in = dev_get_by_name(&init_net, dev);
	list = vmalloc(MOST * sizeof(*list));
	costs = vzalloc(MOST * sizeof(*costs));
	reference = vzalloc(MOST * sizeof(*reference));
	if (!folder || !in || !list || !costs || !reference ||
	    !proc_create("run", 0600, folder, &run_ops) ||
	    !proc_create("packets", 0200, folder, &packets_ops) ||
	    !proc_create("costs", 0600, folder, &costs_ops)) {
		undo();
		return -ENODEV;
	}
	err = nf_register_net_hook(&init_net, &hook);
	if (err)
		undo();
	return err;
}

static void __exit inject_exit(void)
{
	nf_unregister_net_hook(&init_net, &hook);
	undo();
}

module_init(inject_init);
module_exit(inject_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("ctskip benchmark: traffic and meter");
