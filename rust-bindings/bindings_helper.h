/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C items that the Rust code uses beyond the kernel crate's bindings: headers of the kernel for
 * bindgen to read, and this module's own helpers and parameters.
 *
 * bindgen_parameters lists the items that are taken from the headers. bindgen reads a prototype
 * here, and so does the compiler of the function's definition: the two cannot differ.
 */
#ifndef CTSKIP_BINDINGS_HELPER_H
#define CTSKIP_BINDINGS_HELPER_H

/* First of all: bindgen takes a wrong type for an enum that it sees declared before defined. */
#include <linux/hrtimer_types.h>

#include <linux/gfp.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/path.h>
#include <linux/skbuff.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

/*
 * Offsets of fields, for one of three reasons: not every kernel crate binds the type (net,
 * net_device), the crate has the field in an anonymous union (mark), or the wrapper checks at build
 * time that the crate's offset is right. libclang computes them, as it does all of the kernel
 * crate's bindings.
 */
static const size_t CTSKIP_NET_DEVICE_NAME = offsetof(struct net_device, name);
static const size_t CTSKIP_SKB_MARK = offsetof(struct sk_buff, mark);
static const size_t CTSKIP_SKB_NFCT = offsetof(struct sk_buff, _nfct);
static const size_t CTSKIP_SKB_LEN = offsetof(struct sk_buff, len);
static const size_t CTSKIP_SKB_DATA_LEN = offsetof(struct sk_buff, data_len);
static const size_t CTSKIP_SKB_DATA = offsetof(struct sk_buff, data);
static const size_t CTSKIP_NET_INUM = offsetof(struct net, ns.inum);
static const size_t CTSKIP_NET_COOKIE = offsetof(struct net, net_cookie);
static const size_t CTSKIP_NET_PRE_ROUTING_IPV4 =
	offsetof(struct net, nf.hooks_ipv4[NF_INET_PRE_ROUTING]);
static const size_t CTSKIP_NET_PRE_ROUTING_IPV6 =
	offsetof(struct net, nf.hooks_ipv6[NF_INET_PRE_ROUTING]);

/* See memory.rs. */
static const gfp_t CTSKIP_GFP_MAY_FAIL = GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;

/**
 * struct ctskip_conntrack_usage - figures of conntrack in one namespace
 * @entries: number of entries
 * @max: limit of the number of entries
 * @drop: packets dropped because the table was full or memory ran out
 * @early_drop: entries dropped early, to make room
 */
struct ctskip_conntrack_usage {
	u32 entries;
	u32 max;
	u64 drop;
	u64 early_drop;
};

/**
 * struct ctskip_tuple - one direction of a conntrack entry
 * @source: source address; one of IPv4 in the first four bytes
 * @destination: destination address, likewise
 * @source_port: source port
 * @destination_port: destination port, or type and code of ICMP
 * @protocol: protocol
 */
struct ctskip_tuple {
	u8 source[16];
	u8 destination[16];
	u8 source_port[2];
	u8 destination_port[2];
	u8 protocol;
};

/**
 * struct ctskip_conn - a conntrack entry
 * @net: its namespace
 * @original: the direction of its first packet
 * @reply: the direction of the answers
 * @ipv6: whether it is of IPv6, or of IPv4
 * @translated: whether addresses, ports or sequence numbers are translated
 * @expected: whether a helper expected it
 * @helped: whether it has a helper
 * @offloaded: whether a flowtable handles its flow
 * @marked: whether its mark is set
 * @labelled: whether a label is set
 * @templated: whether its packets had a template, or do not pass the hooks
 */
struct ctskip_conn {
	struct net *net;
	struct ctskip_tuple original;
	struct ctskip_tuple reply;
	bool ipv6;
	bool translated;
	bool expected;
	bool helped;
	bool offloaded;
	bool marked;
	bool labelled;
	bool templated;
};

/**
 * struct ctskip_slot - the counters of one rule, on one CPU
 * @packets: packets that the rule decided and that were not held
 * @bytes: bytes of these packets
 * @held: packets that the rule would have skipped if NAT were not in use
 *
 * A slot has one of these for each possible CPU, at a distance of CTSKIP_SLOT_STRIDE bytes from
 * that of the CPU before. Functions take a slot as a pointer to the first CPU's.
 *
 * percpu.rs allocates slots in chunks: the first CPU's parts of a chunk's slots lie side by side,
 * then those of the second CPU, and so on.
 */
struct ctskip_slot {
	u64 packets;
	u64 bytes;
	u64 held;
};

static const size_t CTSKIP_SLOT_STRIDE = 3 * PAGE_SIZE;

/* helpers.c: namespaces, the current task and open files. */
void *ctskip_net_generic(const struct net *net, unsigned int id);
void ctskip_put_net(struct net *net);
bool ctskip_current_in_init_net(void);
int ctskip_find_namespace(const char *name, bool is_cached, struct path *path, u32 *inum);
bool ctskip_net_forwards_ipv4(const struct net *net);
bool ctskip_net_forwards_ipv6(const struct net *net);
pid_t ctskip_current(char *comm);
bool ctskip_current_is_killed(void);
int ctskip_mutex_lock_killable(struct mutex *lock);
void ctskip_get_file(struct file *file);
unsigned long ctskip_file_count(const struct file *file);
bool ctskip_opened_in_init_user_ns(const struct file *file);

/* helpers.c: the log. */
bool ctskip_may_log_refusal(void);
bool ctskip_may_log_denial(void);

/* helpers.c: RCU and the workqueue. */
void ctskip_check_rcu(void);
struct workqueue_struct *ctskip_alloc_ordered_workqueue(const char *name);
bool ctskip_queue_rcu_work(struct workqueue_struct *wq, struct rcu_work *rwork, work_func_t func);

/* helpers.c: conntrack. */
bool ctskip_nfct_is_template(unsigned long nfct);
bool ctskip_conntrack_usage(const struct net *net, struct ctskip_conntrack_usage *usage);
u32 ctskip_conntrack_buckets(void);
int ctskip_conntrack_sweep(void (*begin)(void *data), int (*go_on)(void *data),
			   int (*judge)(void *data, const struct ctskip_conn *conn),
			   void *data, void **room, unsigned int size, u64 *deleted);

/* helpers.c: counters and slots. */
void __percpu *ctskip_alloc_percpu(size_t size, size_t align);
u64 ctskip_percpu_sum(void __percpu *counter);
void *ctskip_alloc_slots(void);
struct ctskip_slot ctskip_slot_sum(void *slot);
void ctskip_slot_zero(void *slot);
u64 *ctskip_alloc_observed(size_t slots);
u64 ctskip_observed_sum(const u64 *observed, size_t stride);
void ctskip_observed_zero(u64 *observed, size_t stride);

/* helpers.c: addresses. */
bool ctskip_ipv4_is_local(struct net *net, const struct net_device *dev, __be32 address);
bool ctskip_ipv6_is_local(struct net *net, const struct net_device *dev, const u8 *address);

/* helpers.c: the last step of a packet. */
unsigned int ctskip_count(void __percpu *counter);
unsigned int ctskip_count_rule(void __percpu *counter, const struct sk_buff *skb,
			       void *slot);
unsigned int ctskip_skip(void __percpu *counter, struct sk_buff *skb, void *slot);
unsigned int ctskip_hold(void __percpu *counter, void *slot);
unsigned int ctskip_observe(void __percpu *counter, u64 *observed, size_t stride);

/* params.c */
char *ctskip_param_take_rules(void);
unsigned int ctskip_param_mode(void);
bool ctskip_param_icmp_errors(void);
unsigned int ctskip_param_worst_lookup(void);
const char *ctskip_param_version(void);

#endif
