// SPDX-License-Identifier: GPL-2.0
/*
 * C functions for the Rust wrappers in src/linux/.
 *
 * Most of them wrap one macro or inline function, which Rust cannot call. Some hold logic, for one
 * of three reasons: a per-CPU access needs a macro, a module's symbols are taken and given back, or
 * a packet needs several steps and each helper costs it a call. These have a kernel-doc comment.
 *
 * The wrappers say, beside each call, why its arguments are valid.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/inetdevice.h>
#include <linux/list_nulls.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/namei.h>
#include <linux/nsproxy.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/vmalloc.h>
#include <net/addrconf.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#ifdef CTSKIP_IPV6_STUB
#include <net/ipv6_stubs.h>
#endif
#include <net/ip_fib.h>
#include <net/l3mdev.h>
#include <net/net_namespace.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_core.h>
#include <net/netfilter/nf_conntrack_helper.h>
#include <net/netfilter/nf_conntrack_labels.h>
#include <net/netfilter/nf_conntrack_zones.h>
#include <net/netns/generic.h>

#include <asm/local64.h>

#include "bindings_helper.h"

/* Network namespaces (net.rs, pernet.rs). */

void *ctskip_net_generic(const struct net *net, unsigned int id)
{
	return net_generic(net, id);
}

void ctskip_put_net(struct net *net)
{
	put_net(net);
}

/**
 * ctskip_current_in_init_net() - test the network namespace of the current task
 *
 * Context: Process context.
 * Return: true if it is the initial namespace, false if it is another one or none, as at the
 *	   task's exit.
 */
bool ctskip_current_in_init_net(void)
{
	/* Only a task itself changes its nsproxy, so that no lock is needed here. */
	const struct nsproxy *nsproxy = current->nsproxy;

	return nsproxy && net_eq(nsproxy->net_ns, &init_net);
}

/**
 * ctskip_find_namespace() - find the namespace that a file is
 * @name: the path of the file, by the root and the mounts of the current task
 * @is_cached: whether only what is in memory is looked up
 * @path: where the file is written, with a reference for the caller, who puts it
 * @inum: where the inode number is written, which is the number of the namespace
 *
 * With @is_cached, no file system is asked: others wait for a writer. Alone the root of a network
 * file system, if @name leads to one, may be asked whether it is still valid; a signal that ends
 * the task ends that, too.
 *
 * Context: Process context.
 * Return: 0; -EAGAIN where some of @name is not in memory; -EINVAL where the file is no namespace;
 *	   an error of kern_path(). There is no reference where it is not 0.
 */
int ctskip_find_namespace(const char *name, bool is_cached, struct path *path, u32 *inum)
{
	unsigned int flags = LOOKUP_FOLLOW | (is_cached ? LOOKUP_CACHED : 0);
	int attempts = is_cached ? 16 : 1;
	int err;

	/* A mount or a renaming anywhere ends a look-up in memory, too. */
	do {
		err = kern_path(name, flags, path);
	} while (err == -EAGAIN && --attempts);
	if (err)
		return err;
	if (path->dentry->d_sb->s_magic != NSFS_MAGIC) {
		path_put(path);
		return -EINVAL;
	}
	*inum = d_inode(path->dentry)->i_ino;
	return 0;
}

bool ctskip_net_forwards_ipv4(const struct net *net)
{
	return READ_ONCE(IPV4_DEVCONF_ALL(net, FORWARDING));
}

bool ctskip_net_forwards_ipv6(const struct net *net)
{
#if IS_ENABLED(CONFIG_IPV6)
	const struct ipv6_devconf *all = READ_ONCE(net->ipv6.devconf_all);

	/* There are none where IPv6 is switched off (ipv6.disable=1). */
	return all && READ_ONCE(all->forwarding);
#else
	return false;
#endif
}

/* The current task and open files (task.rs, sysfs.rs). */

/**
 * ctskip_current() - name the current task
 * @comm: where its command name is written: TASK_COMM_LEN bytes, padded with NUL
 *
 * Context: Process context.
 * Return: The id of its thread group, in the initial pid namespace.
 */
pid_t ctskip_current(char *comm)
{
	strscpy_pad(comm, current->comm, TASK_COMM_LEN);
	return task_tgid_nr(current);
}

/**
 * ctskip_current_is_killed() - test for a signal that ends the current task
 *
 * Context: Process context.
 * Return: true if there is one.
 */
bool ctskip_current_is_killed(void)
{
	return fatal_signal_pending(current);
}

int ctskip_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

void ctskip_get_file(struct file *file)
{
	get_file(file);
}

unsigned long ctskip_file_count(const struct file *file)
{
	return file_count((struct file *)file);
}

/**
 * ctskip_opened_in_init_user_ns() - test the user namespace of an open file's opener
 * @file: the open file
 *
 * Context: Any context.
 * Return: true if the opener was in the initial user namespace when it opened the file.
 */
bool ctskip_opened_in_init_user_ns(const struct file *file)
{
	return file->f_cred->user_ns == &init_user_ns;
}

/* The log (ratelimit.rs). */

/**
 * ctskip_may_log_refusal() - count a line about a refused write
 *
 * Context: Any context.
 * Return: true if it may be logged.
 */
bool ctskip_may_log_refusal(void)
{
	static DEFINE_RATELIMIT_STATE(refusals, 60 * HZ, 10);

	return ___ratelimit(&refusals, "ctskip: refused writes");
}

/**
 * ctskip_may_log_denial() - count a line about a call that failed with EPERM
 *
 * Context: Any context.
 * Return: true if it may be logged.
 */
bool ctskip_may_log_denial(void)
{
	static DEFINE_RATELIMIT_STATE(denials, 30 * 60 * HZ, 3);

	return ___ratelimit(&denials, "ctskip: EPERM");
}

/* RCU and the workqueue (rcu.rs, workqueue.rs). */

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

/* Conntrack (conntrack.rs, skb.rs). */

bool ctskip_nfct_is_template(unsigned long nfct)
{
	return nf_ct_is_template((const struct nf_conn *)(nfct & NFCT_PTRMASK));
}

/*
 * nf_conntrack may not have seen a namespace that is still being set up: net->ct.stat is not there
 * yet. A namespace is listed only after the init of every subsystem has run on it.
 */
static bool net_is_listed(const struct net *net)
{
	bool listed;

	down_read(&net_rwsem);
	listed = net->list.next;
	up_read(&net_rwsem);
	return listed;
}

/**
 * ctskip_conntrack_usage() - read the figures of conntrack in a namespace
 * @net: the namespace
 * @usage: where they are written
 *
 * Symbols of nf_conntrack are taken for the length of the call only, so that this module neither
 * needs nf_conntrack nor keeps it from being unloaded. net->ct.stat dangles once nf_conntrack has
 * gone. While a symbol is held, it cannot go.
 *
 * Context: Process context; may sleep.
 * Return: true, or false if nf_conntrack is not loaded or @net is still being set up.
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

/**
 * ctskip_conntrack_buckets() - read the size of conntrack's hash table
 *
 * Context: Process context; may sleep.
 * Return: The number of buckets, or 0 if nf_conntrack is not loaded.
 */
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

/* What a sweep uses of nf_conntrack: each symbol keeps that module from being unloaded. */
struct conntrack_symbols {
	typeof(nf_conntrack_hash) *hash;
	typeof(nf_conntrack_htable_size) *buckets;
	typeof(nf_conntrack_locks) *locks;
	typeof(nf_conntrack_lock) *lock;
	typeof(nf_ct_delete) *delete;
};

static void put_symbols(const struct conntrack_symbols *symbols)
{
	if (symbols->hash)
		symbol_put(nf_conntrack_hash);
	if (symbols->buckets)
		symbol_put(nf_conntrack_htable_size);
	if (symbols->locks)
		symbol_put(nf_conntrack_locks);
	if (symbols->lock)
		symbol_put(nf_conntrack_lock);
	if (symbols->delete)
		symbol_put(nf_ct_delete);
}

static bool get_symbols(struct conntrack_symbols *symbols)
{
	symbols->hash = symbol_get(nf_conntrack_hash);
	symbols->buckets = symbol_get(nf_conntrack_htable_size);
	symbols->locks = symbol_get(nf_conntrack_locks);
	symbols->lock = symbol_get(nf_conntrack_lock);
	symbols->delete = symbol_get(nf_ct_delete);
	if (symbols->hash && symbols->buckets && symbols->locks && symbols->lock &&
	    symbols->delete)
		return true;
	put_symbols(symbols);
	return false;
}

/*
 * Takes a reference on each entry whose reply lies in a bucket: so each entry of the hash is taken
 * once, also one of which only the reply is there (IPS_NAT_CLASH). As get_next_corpse() of
 * net/netfilter/nf_conntrack_core.c, but for the resizing of the hash: that waits for each bucket's
 * lock. So the size holds while the lock is held, and entries lie in the same buckets as long as it
 * is @buckets.
 *
 * Returns the number of entries; where it is over @size, no reference was taken. Returns -EAGAIN
 * where the number of buckets is not @buckets any more, which it then is.
 */
static int take_bucket(const struct conntrack_symbols *symbols, unsigned int bucket,
		       unsigned int *buckets, void **entries, int size)
{
	spinlock_t *lock = &(*symbols->locks)[bucket % CONNTRACK_LOCKS];
	struct nf_conntrack_tuple_hash *h;
	struct hlist_nulls_node *n;
	int count = 0;
	int i;

	local_bh_disable();
	symbols->lock(lock);
	if (*symbols->buckets != *buckets) {
		*buckets = *symbols->buckets;
		count = -EAGAIN;
	} else if (bucket < *buckets) {
		hlist_nulls_for_each_entry(h, n, &(*symbols->hash)[bucket], hnnode) {
			if (NF_CT_DIRECTION(h) != IP_CT_DIR_REPLY)
				continue;
			if (count < size)
				entries[count] = nf_ct_tuplehash_to_ctrack(h);
			count++;
		}
		for (i = 0; count <= size && i < count; i++)
			refcount_inc(&((struct nf_conn *)entries[i])->ct_general.use);
	}
	spin_unlock(lock);
	local_bh_enable();
	return count;
}

static void describe_tuple(struct ctskip_tuple *to, const struct nf_conntrack_tuple *tuple)
{
	memcpy(to->source, &tuple->src.u3, sizeof(to->source));
	memcpy(to->destination, &tuple->dst.u3, sizeof(to->destination));
	memcpy(to->source_port, &tuple->src.u.all, sizeof(to->source_port));
	memcpy(to->destination_port, &tuple->dst.u.all, sizeof(to->destination_port));
	to->protocol = tuple->dst.protonum;
}

/* Not nf_ct_ext_find(), which calls into nf_conntrack on some kernels. */
static const void *find_ext(const struct nf_conn *ct, enum nf_ct_ext_id id)
{
	const struct nf_ct_ext *ext = ct->ext;

	if (!ext || !__nf_ct_ext_exist(ext, id))
		return NULL;
	return (const void *)ext + ext->offset[id];
}

static bool has_helper(const struct nf_conn *ct)
{
	const struct nf_conn_help *help = find_ext(ct, NF_CT_EXT_HELPER);

	return help && rcu_access_pointer(help->helper);
}

/*
 * ctskip leaves a packet alone that has a template. What a template gives the entry tells of it: a
 * zone, timeouts, a choice of events; a helper, too, see has_helper(). act_ct and Open vSwitch make
 * entries of packets that do not pass the hooks.
 */
static bool is_templated(const struct nf_conn *ct)
{
#ifdef CONFIG_NF_CONNTRACK_EVENTS
	const struct nf_conntrack_ecache *events = find_ext(ct, NF_CT_EXT_ECACHE);

	if (events && events->ctmask != (u16)~0)
		return true;
#endif
#ifdef CONFIG_NF_CONNTRACK_TIMEOUT
	if (find_ext(ct, NF_CT_EXT_TIMEOUT))
		return true;
#endif
#if IS_ENABLED(CONFIG_NET_ACT_CT)
	if (find_ext(ct, NF_CT_EXT_ACT_CT))
		return true;
#endif
	/* Not nf_ct_zone(), which asks for nf_conntrack where there are no zones. */
#ifdef CONFIG_NF_CONNTRACK_ZONES
	return ct->zone.id != NF_CT_DEFAULT_ZONE_ID;
#else
	return false;
#endif
}

static bool has_label(const struct nf_conn *ct)
{
	const struct nf_conn_labels *labels = nf_ct_labels_find(ct);

	return labels && memchr_inv(labels->bits, 0, sizeof(labels->bits));
}

/*
 * The caller has a reference on the entry: so it is not made another one, its extensions stay, and
 * its namespace does not end, as that waits for all of its entries: see
 * nf_conntrack_cleanup_net_list().
 */
static void describe(struct ctskip_conn *conn, const struct nf_conn *ct)
{
	unsigned long status = READ_ONCE(ct->status);

	memset(conn, 0, sizeof(*conn));
	conn->net = nf_ct_net(ct);
	describe_tuple(&conn->original, &ct->tuplehash[IP_CT_DIR_ORIGINAL].tuple);
	describe_tuple(&conn->reply, &ct->tuplehash[IP_CT_DIR_REPLY].tuple);
	conn->ipv6 = nf_ct_l3num(ct) == NFPROTO_IPV6;
	conn->translated = status & (IPS_NAT_MASK | IPS_SEQ_ADJUST);
	conn->expected = (status & IPS_EXPECTED) || ct->master;
	conn->helped = has_helper(ct);
	conn->offloaded = status & (IPS_OFFLOAD | IPS_HW_OFFLOAD);
#if IS_ENABLED(CONFIG_NF_CONNTRACK_MARK)
	conn->marked = READ_ONCE(ct->mark);
#endif
	conn->labelled = has_label(ct);
	conn->templated = is_templated(ct);
}

/* An entry that is dying has left the hash, or is about to. */
static bool is_wanted(const struct nf_conn *ct)
{
	return !nf_ct_is_dying(ct) &&
	       (nf_ct_l3num(ct) == NFPROTO_IPV4 || nf_ct_l3num(ct) == NFPROTO_IPV6);
}

/* How often a sweep may begin: whoever resizes the hash without end does not keep it. */
#define SWEEP_STARTS 16

/* After how many buckets, empty ones too, a sweep asks whether it is still wanted. */
#define SWEEP_PACE 1024

/**
 * ctskip_conntrack_sweep() - look at all entries of conntrack, and delete some
 * @begin: called ahead of the first entry, and again where all entries are looked at anew
 * @go_on: called every %SWEEP_PACE buckets; returns 0, or an error, which ends the sweep
 * @judge: called for each entry of IPv4 or IPv6; returns 1 where it is to be deleted, 0 where it
 *	   stays, or an error, which ends the sweep
 * @data: passed to all three
 * @room: room for pointers to the entries of one bucket
 * @size: how many of them have room
 * @deleted: where the number of deleted entries is written
 *
 * One walk of the hash for all namespaces. It holds the lock of one bucket at a time, and nothing
 * while it looks at entries and deletes them. Where the hash is resized meanwhile, it begins anew.
 * What is not in the hash is not seen: an entry comes there when its first packet has been through
 * all hooks.
 *
 * Symbols of nf_conntrack are taken for the length of the call only.
 *
 * Context: Process context; may sleep.
 * Return: 0, also where nf_conntrack is not loaded; the error of @judge or @go_on; -EAGAIN if the
 *	   hash was resized again and again; -EINTR if the current task was killed; or -ENOMEM if
 *	   there is no more room for a bucket of more entries.
 */
int ctskip_conntrack_sweep(void (*begin)(void *data), int (*go_on)(void *data),
			   int (*judge)(void *data, const struct ctskip_conn *conn),
			   void *data, void **room, unsigned int size, u64 *deleted)
{
	struct conntrack_symbols symbols;
	struct ctskip_conn conn;
	unsigned int buckets = 0;
	unsigned int starts = 0;
	unsigned int bucket = 0;
	void **entries = room;
	void **more = NULL;
	int error = 0;
	int count;
	int i;

	*deleted = 0;
	if (!get_symbols(&symbols))
		return 0;

	while (!error) {
		if (fatal_signal_pending(current)) {
			error = -EINTR;
			break;
		}
		count = take_bucket(&symbols, bucket, &buckets, entries, size);
		if (count == -EAGAIN) {
			/* The first time, it learns the number. */
			if (++starts > SWEEP_STARTS) {
				error = -EAGAIN;
				break;
			}
			bucket = 0;
			begin(data);
			continue;
		}
		if (bucket >= buckets)
			break;
		if (count > (int)size) {
			/* A chain this long is left by a hash that was made smaller. */
			size = count;
			kvfree(more);
			more = kvmalloc_array(size, sizeof(*more), GFP_KERNEL);
			entries = more;
			if (!more)
				error = -ENOMEM;
			continue;
		}
		for (i = 0; i < count; i++) {
			struct nf_conn *ct = entries[i];

			if (!error && is_wanted(ct)) {
				int fate;

				describe(&conn, ct);
				fate = judge(data, &conn);
				if (fate < 0)
					error = fate;
				/* Another one may have deleted it just now. */
				else if (fate && symbols.delete(ct, 0, 0))
					(*deleted)++;
			}
			/* Not nf_ct_put(), which calls into nf_conntrack. */
			nf_conntrack_put(&ct->ct_general);
			cond_resched();
		}
		bucket++;
		if (!error && bucket % SWEEP_PACE == 0)
			error = go_on(data);
		cond_resched();
	}

	kvfree(more);
	put_symbols(&symbols);
	return error;
}

/* Counters of a namespace: a u64 for each CPU (percpu.rs). */

void __percpu *ctskip_alloc_percpu(size_t size, size_t align)
{
	return __alloc_percpu_gfp(size, align, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
}

/**
 * ctskip_percpu_sum() - sum a counter over all CPUs
 * @counter: the counter, a u64
 *
 * Context: Any context. Packets may be counted at the same time.
 * Return: The sum.
 */
u64 ctskip_percpu_sum(void __percpu *counter)
{
	u64 __percpu *c = counter;
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(c, cpu));
	return sum;
}

/* Slots: the counters of a rule; see struct ctskip_slot (percpu.rs). */

/* Distance of a CPU's part of a slot from the first CPU's: saves each packet a multiplication. */
static DEFINE_PER_CPU(unsigned long, slot_offset);

static struct ctskip_slot *slot_of(void *slot, unsigned int cpu)
{
	return slot + cpu * CTSKIP_SLOT_STRIDE;
}

/* The caller has disabled preemption. */
static struct ctskip_slot *slot_here(void *slot)
{
	return slot + raw_cpu_read(slot_offset);
}

/* One instruction where the CPU has one: an interrupt's packet may be counted at the same time. */
static void add(u64 *counter, u64 n)
{
	static_assert(sizeof(local64_t) == sizeof(u64));
	local64_add(n, (local64_t *)counter);
}

/**
 * ctskip_alloc_slots() - allocate memory for slots
 *
 * Context: Process context; may sleep.
 * Return: CTSKIP_SLOT_STRIDE zeroed bytes for each CPU, for the caller to kvfree(), or NULL.
 */
void *ctskip_alloc_slots(void)
{
	int cpu;

	/* Written by the first call only: packets read it during later ones. */
	for_each_possible_cpu(cpu)
		if (per_cpu(slot_offset, cpu) != cpu * CTSKIP_SLOT_STRIDE)
			per_cpu(slot_offset, cpu) = cpu * CTSKIP_SLOT_STRIDE;
	return __vmalloc(array_size(nr_cpu_ids, CTSKIP_SLOT_STRIDE),
			 CTSKIP_GFP_MAY_FAIL | __GFP_ZERO);
}

/**
 * ctskip_slot_sum() - sum the counters of a slot over all CPUs
 * @slot: the slot
 *
 * Context: Any context. Packets may be counted at the same time.
 * Return: The sums.
 */
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

/**
 * ctskip_slot_zero() - zero the counters of a slot
 * @slot: the slot, in which no packet is counted yet
 *
 * Context: Any context.
 */
void ctskip_slot_zero(void *slot)
{
	int cpu;

	for_each_possible_cpu(cpu)
		memset(slot_of(slot, cpu), 0, sizeof(struct ctskip_slot));
}

/* Addresses of a namespace (netfilter.rs). */

/* As fib_add_ifaddr() has it: one that was assigned, and the last one of the network. */
static bool is_broadcast(const struct in_ifaddr *ifa, __be32 address)
{
	return address == ifa->ifa_broadcast ||
	       (ifa->ifa_prefixlen < 31 && address == (ifa->ifa_address | ~ifa->ifa_mask));
}

static bool has_vrf(const struct net_device *dev)
{
	return dev && (netif_is_l3_master(dev) || netif_is_l3_slave(dev));
}

/* Whether two devices, or one and none, are in one VRF, or in none. Each has its own addresses. */
static bool are_in_one_vrf(const struct net_device *one, const struct net_device *other)
{
	if (one == other || (!has_vrf(one) && !has_vrf(other)))
		return true;
	return l3mdev_master_ifindex_rcu(one) == l3mdev_master_ifindex_rcu(other);
}

/**
 * ctskip_ipv4_is_local() - test whether an IPv4 address is one of a namespace
 * @net: the namespace
 * @dev: the packet's device, or NULL; its broadcast addresses count; in a VRF, the VRF's addresses
 *	 and local routes alone do
 * @address: the address
 *
 * Addresses of devices, those of local routes (127.0.0.0/8 and AnyIP among them), multicast and
 * broadcast addresses are. As inet_addr_type_dev_table(), which takes ten times as long for an
 * address of a device.
 *
 * Context: Any context, under the RCU read lock.
 */
bool ctskip_ipv4_is_local(struct net *net, const struct net_device *dev, __be32 address)
{
	const struct in_device *in_dev;
	const struct in_ifaddr *ifa;
	const struct net_device *owner;

	if (ipv4_is_multicast(address) || ipv4_is_lbcast(address))
		return true;
	/* Nobody's address: the source of a host that has none yet. */
	if (ipv4_is_zeronet(address))
		return false;
	owner = __ip_dev_find(net, address, false);
	if (owner && are_in_one_vrf(owner, dev))
		return true;
	in_dev = dev ? __in_dev_get_rcu(dev) : NULL;
	if (in_dev)
		in_dev_for_each_ifa_rcu(ifa, in_dev)
			if (is_broadcast(ifa, address))
				return true;
	return (owner || l3mdev_fib_table_rcu(dev)) &&
	       inet_addr_type_dev_table(net, dev, address) == RTN_LOCAL;
}

#if IS_ENABLED(CONFIG_IPV6)
/* The flags (RTF_) of the route to a destination. As nft's fib expression looks it up. */
static u32 ipv6_route_flags(struct net *net, struct flowi6 *fl6)
{
#if defined(CTSKIP_IPV6_STUB) || IS_MODULE(CONFIG_NFT_FIB_IPV6)
	struct fib6_result res = {};
	int error;

#ifdef CTSKIP_IPV6_STUB
	error = ipv6_stub->fib6_lookup(net, 0, fl6, &res, 0);
#else
	error = fib6_lookup(net, 0, fl6, &res, 0);
#endif
	return error ? 0 : res.fib6_flags;
#else
	/* The kernel exports fib6_lookup() only for nft's module. */
	struct dst_entry *dst = ip6_route_lookup(net, fl6, NULL, 0);
	u32 flags = dst->error ? 0 : dst_rt6_info(dst)->rt6i_flags;

	dst_release(dst);
	return flags;
#endif
}
#endif

/**
 * ctskip_ipv6_is_local() - test whether an IPv6 address is one of a namespace
 * @net: the namespace
 * @dev: the packet's device, or NULL; in a VRF, the VRF's addresses count, and of link-local
 *	 addresses the device's
 * @address: the address, 16 bytes
 *
 * Addresses of devices, those of local routes (AnyIP among them), anycast and multicast addresses
 * are.
 *
 * Context: Any context, under the RCU read lock.
 */
bool ctskip_ipv6_is_local(struct net *net, const struct net_device *dev, const u8 *address)
{
#if IS_ENABLED(CONFIG_IPV6)
	struct flowi6 fl6 = {
		.flowi6_iif = LOOPBACK_IFINDEX,
		.flowi6_l3mdev = l3mdev_master_ifindex_rcu(dev),
	};

	memcpy(&fl6.daddr, address, sizeof(fl6.daddr));
	if (ipv6_addr_is_multicast(&fl6.daddr) || ipv6_chk_addr(net, &fl6.daddr, dev, 0))
		return true;
	if (ipv6_addr_type(&fl6.daddr) & IPV6_ADDR_LINKLOCAL || ipv6_addr_any(&fl6.daddr))
		return false;
	return ipv6_route_flags(net, &fl6) & (RTF_LOCAL | RTF_ANYCAST);
#else
	return false;
#endif
}

/**
 * ctskip_alloc_observed() - allocate counters of observed packets
 * @slots: the number of slots
 *
 * Context: Process context; may sleep.
 * Return: So many zeroed counters for each CPU, for the caller to kvfree(), or NULL.
 */
u64 *ctskip_alloc_observed(size_t slots)
{
	return kvcalloc(nr_cpu_ids, array_size(slots, sizeof(u64)), CTSKIP_GFP_MAY_FAIL);
}

/**
 * ctskip_observed_sum() - sum a counter of observed packets over all CPUs
 * @observed: the first CPU's counter
 * @stride: the distance of each CPU's from that of the CPU before, in counters
 *
 * Context: Any context. Packets may be counted at the same time.
 * Return: The sum.
 */
u64 ctskip_observed_sum(const u64 *observed, size_t stride)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(observed[cpu * stride]);
	return sum;
}

/**
 * ctskip_observed_zero() - zero a counter of observed packets
 * @observed: the first CPU's counter, at which no packet is counted yet
 * @stride: the distance of each CPU's from that of the CPU before, in counters
 *
 * Context: Any context.
 */
void ctskip_observed_zero(u64 *observed, size_t stride)
{
	int cpu;

	for_each_possible_cpu(cpu)
		observed[cpu * stride] = 0;
}

/*
 * The last step of a packet (percpu.rs, skb.rs). Each of these returns what the hook function
 * then returns. They are not traced, which would cost each packet an instruction.
 */

/**
 * ctskip_count() - count a packet
 * @counter: a counter of its namespace, a u64
 *
 * Context: Any context, preemptible too.
 * Return: NF_ACCEPT.
 */
unsigned int notrace ctskip_count(void __percpu *counter)
{
	u64 __percpu *c = counter;

	this_cpu_inc(*c);
	return NF_ACCEPT;
}

/**
 * ctskip_count_rule() - count a packet that a rule has matched
 * @counter: a counter of its namespace, a u64
 * @skb: the packet, whose data begin at the network header
 * @slot: the slot of the rule
 *
 * Context: Any context, preemptible too.
 * Return: NF_ACCEPT.
 */
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

/**
 * ctskip_skip() - keep a packet out of conntrack, and count it
 * @counter: a counter of its namespace, a u64
 * @skb: the packet, which has no conntrack entry and no template
 * @slot: the slot of the rule that has matched it
 *
 * Context: Any context, preemptible too.
 * Return: NF_ACCEPT.
 */
unsigned int notrace ctskip_skip(void __percpu *counter, struct sk_buff *skb, void *slot)
{
	nf_ct_set(skb, NULL, IP_CT_UNTRACKED);
	return ctskip_count_rule(counter, skb, slot);
}

/**
 * ctskip_hold() - count a packet that stays tracked because NAT is in use
 * @counter: a counter of its namespace, a u64
 * @slot: the slot of the rule that has matched it
 *
 * Context: Any context, preemptible too.
 * Return: NF_ACCEPT.
 */
unsigned int notrace ctskip_hold(void __percpu *counter, void *slot)
{
	preempt_disable_notrace();
	add(&slot_here(slot)->held, 1);
	preempt_enable_notrace();
	return ctskip_count(counter);
}

/**
 * ctskip_observe() - count a packet that a rule would have skipped
 * @counter: a counter of its namespace, a u64
 * @observed: the first CPU's counter of the rule
 * @stride: the distance of each CPU's from that of the CPU before, in counters
 *
 * Context: Any context, preemptible too.
 * Return: NF_ACCEPT.
 */
unsigned int notrace ctskip_observe(void __percpu *counter, u64 *observed, size_t stride)
{
	preempt_disable_notrace();
	add(&observed[raw_smp_processor_id() * stride], 1);
	preempt_enable_notrace();
	return ctskip_count(counter);
}
