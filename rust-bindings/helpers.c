// SPDX-License-Identifier: GPL-2.0
/*
 * C that Rust cannot call by itself: macros, inline functions and per-CPU accesses, wrapped. One
 * helper does all that a packet needs of its kind, as each is a real call.
 *
 * Who may call them, and with what, is said at their callers in src/.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>
#include <net/net_namespace.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netns/generic.h>

#include <asm/local64.h>

#include "bindings_helper.h"

void *ctskip_net_generic(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}

void ctskip_put_net(struct net *net)
{
	put_net(net);
}

bool ctskip_current_in_init_net(void)
{
	/* Only a task itself changes its nsproxy, so it needs no lock here. */
	const struct nsproxy *nsproxy = current->nsproxy;

	return nsproxy && net_eq(nsproxy->net_ns, &init_net);
}

/* Gives the id of the thread group, as the initial pid namespace has it. */
pid_t ctskip_current(char *comm)
{
	strscpy_pad(comm, current->comm, TASK_COMM_LEN);
	return task_tgid_nr(current);
}

bool ctskip_nfct_is_template(unsigned long nfct)
{
	return nf_ct_is_template((const struct nf_conn *)(nfct & NFCT_PTRMASK));
}

void ctskip_check_rcu(void)
{
	RCU_LOCKDEP_WARN(!rcu_read_lock_held(), "ctskip: no RCU read lock");
}

struct workqueue_struct *ctskip_alloc_ordered_workqueue(const char *name)
{
	return alloc_ordered_workqueue("%s", 0, name);
}

bool ctskip_queue_rcu_work(struct workqueue_struct *wq, struct rcu_work *rwork, work_func_t func)
{
	INIT_RCU_WORK(rwork, func);
	return queue_rcu_work(wq, rwork);
}

void __percpu *ctskip_alloc_percpu(size_t size, size_t align)
{
	return __alloc_percpu_gfp(size, align, GFP_KERNEL | __GFP_ZERO);
}

/* How far a CPU's part of a slot is from the first one's: that spares each packet the product. */
static DEFINE_PER_CPU(unsigned long, slot_offset);

static struct ctskip_slot *slot_of(void *slot, unsigned int cpu)
{
	return slot + cpu * CTSKIP_SLOT_STRIDE;
}

/* Preemption is off. */
static struct ctskip_slot *slot_here(void *slot)
{
	return slot + raw_cpu_read(slot_offset);
}

/* In one instruction where there is one, as an interrupt's packet may be counted meanwhile. */
static void add(u64 *counter, u64 n)
{
	static_assert(sizeof(local64_t) == sizeof(u64));
	local64_add(n, (local64_t *)counter);
}

/*
 * The last thing that is done for a packet is one of these four: they return what a hook function
 * then returns. @counter is a u64, @slot a struct ctskip_slot. Not traced, which would cost each
 * packet an instruction.
 */
unsigned int notrace ctskip_count(void __percpu *counter)
{
	u64 __percpu *c = counter;

	this_cpu_inc(*c);
	return NF_ACCEPT;
}

unsigned int notrace ctskip_count_rule(void __percpu *counter, const struct sk_buff *skb,
				       void *slot)
{
	struct ctskip_slot *s;

	preempt_disable_notrace();
	s = slot_here(slot);
	add(&s->packets, 1);
	add(&s->bytes, skb->len);
	preempt_enable_notrace();
	return ctskip_count(counter);
}

unsigned int notrace ctskip_skip(void __percpu *counter, struct sk_buff *skb, void *slot)
{
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	return ctskip_count_rule(counter, skb, slot);
}

unsigned int notrace ctskip_hold(void __percpu *counter, void *slot)
{
	preempt_disable_notrace();
	add(&slot_here(slot)->held, 1);
	preempt_enable_notrace();
	return ctskip_count(counter);
}

u64 ctskip_percpu_sum(void __percpu *counter)
{
	u64 __percpu *c = counter;
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(c, cpu));
	return sum;
}

/* Zeroed memory for slots, for each CPU as much as there is from one to the next. */
void *ctskip_alloc_slots(void)
{
	int cpu;

	/* Once: packets read it while later ones are made. */
	for_each_possible_cpu(cpu)
		if (per_cpu(slot_offset, cpu) != cpu * CTSKIP_SLOT_STRIDE)
			per_cpu(slot_offset, cpu) = cpu * CTSKIP_SLOT_STRIDE;
	return vzalloc(array_size(nr_cpu_ids, CTSKIP_SLOT_STRIDE));
}

struct ctskip_slot ctskip_slot_sum(void *slot)
{
	struct ctskip_slot sum = {};
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct ctskip_slot *s = slot_of(slot, cpu);

		sum.packets += READ_ONCE(s->packets);
		sum.bytes += READ_ONCE(s->bytes);
		sum.held += READ_ONCE(s->held);
	}
	return sum;
}

void ctskip_slot_zero(void *slot)
{
	int cpu;

	for_each_possible_cpu(cpu)
		memset(slot_of(slot, cpu), 0, sizeof(struct ctskip_slot));
}

void ctskip_get_file(struct file *file)
{
	get_file(file);
}

unsigned long ctskip_file_count(const struct file *file)
{
	return file_count((struct file *)file);
}

/*
 * A namespace that is still being set up may not have been seen by nf_conntrack: its per-namespace
 * memory is not there yet. Once listed, every subsystem's init has run on it.
 */
static bool net_is_listed(const struct net *net)
{
	bool listed;

	down_read(&net_rwsem);
	listed = net->list.next;
	up_read(&net_rwsem);
	return listed;
}

/*
 * nf_conntrack's symbols are taken for the length of a call, so that this module neither needs it
 * nor keeps it from being unloaded. While one is held, no exit of nf_conntrack frees what is read
 * here: net->ct.stat dangles once it has gone.
 */
bool ctskip_conntrack_usage(const struct net *net, struct ctskip_conntrack_usage *usage)
{
	typeof(nf_conntrack_count) *count;
	typeof(nf_conntrack_max) *max;
	int cpu;

	if (!net_is_listed(net))
		return false;
	count = symbol_get(nf_conntrack_count);
	if (!count)
		return false;

	memset(usage, 0, sizeof(*usage));
	usage->entries = count(net);
	max = symbol_get(nf_conntrack_max);
	if (max) {
		usage->max = READ_ONCE(*max);
		symbol_put(nf_conntrack_max);
	}
	for_each_possible_cpu(cpu) {
		const struct ip_conntrack_stat *stat = per_cpu_ptr(net->ct.stat, cpu);

		usage->drop += READ_ONCE(stat->drop);
		usage->early_drop += READ_ONCE(stat->early_drop);
	}
	symbol_put(nf_conntrack_count);
	return true;
}

/* 0 where nf_conntrack is not loaded. */
u32 ctskip_conntrack_buckets(void)
{
	typeof(nf_conntrack_htable_size) *size;
	u32 buckets;

	size = symbol_get(nf_conntrack_htable_size);
	if (!size)
		return 0;
	buckets = READ_ONCE(*size);
	symbol_put(nf_conntrack_htable_size);
	return buckets;
}
