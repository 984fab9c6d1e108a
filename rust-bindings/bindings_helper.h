/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust code sees of C beyond the kernel crate's bindings: the headers that bindgen reads,
 * and the helpers and parameters of this module.
 *
 * Which items of the headers are taken is said in bindgen_parameters. A prototype here is seen by
 * bindgen and by the C file that defines the function, so the two cannot part.
 */
#ifndef CTSKIP_BINDINGS_HELPER_H
#define CTSKIP_BINDINGS_HELPER_H

/* Ahead of all: bindgen takes a wrong type for an enum that is first seen declared only. */
#include <linux/hrtimer_types.h>

#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/skbuff.h>
#include <linux/types.h>
#include <linux/workqueue.h>
#include <net/net_namespace.h>

/*
 * Where a field lies that not every kernel crate's bindings name (net, net_device), that sits in
 * an anonymous union there (mark), or that is checked when the module is built. It is libclang
 * that says so, as it does for all of the kernel crate's bindings.
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

/* What conntrack holds in one namespace. */
struct ctskip_conntrack_usage {
	u32 entries;
	u32 max;
	u64 drop;
	u64 early_drop;
};

/*
 * What a rule counts. There is one of these for each CPU, that far apart; a slot is told by a
 * pointer to the first CPU's.
 */
struct ctskip_slot {
	u64 packets;
	u64 bytes;
	u64 held;
};

static const size_t CTSKIP_SLOT_STRIDE = 3 * PAGE_SIZE;

/* helpers.c */
void *ctskip_net_generic(const struct net *net, unsigned int id);
void ctskip_put_net(struct net *net);
bool ctskip_current_in_init_net(void);
pid_t ctskip_current(char *comm);
bool ctskip_nfct_is_template(unsigned long nfct);
void ctskip_check_rcu(void);
struct workqueue_struct *ctskip_alloc_ordered_workqueue(const char *name);
bool ctskip_queue_rcu_work(struct workqueue_struct *wq, struct rcu_work *rwork, work_func_t func);
void __percpu *ctskip_alloc_percpu(size_t size, size_t align);
unsigned int ctskip_count(void __percpu *counter);
unsigned int ctskip_count_rule(void __percpu *counter, const struct sk_buff *skb,
			       void *slot);
unsigned int ctskip_skip(void __percpu *counter, struct sk_buff *skb, void *slot);
unsigned int ctskip_hold(void __percpu *counter, void *slot);
u64 ctskip_percpu_sum(void __percpu *counter);
void *ctskip_alloc_slots(void);
struct ctskip_slot ctskip_slot_sum(void *slot);
void ctskip_slot_zero(void *slot);
void ctskip_get_file(struct file *file);
unsigned long ctskip_file_count(const struct file *file);
bool ctskip_conntrack_usage(const struct net *net, struct ctskip_conntrack_usage *usage);
u32 ctskip_conntrack_buckets(void);

/* params.c */
char *ctskip_param_take_rules(void);
unsigned int ctskip_param_mode(void);
bool ctskip_param_icmp_errors(void);
const char *ctskip_param_version(void);

#endif
