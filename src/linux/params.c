// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameters and version.
 *
 * They are in C because module! of the kernel crate knows only integers and booleans. The Rust side
 * is params.rs.
 *
 * `rules` has operations of its own: the standard string parameter ends at 1,024 bytes, and keeps
 * only the last of several. The kernel calls `set` before the module's init. It calls `free` in
 * every case: when init fails, when a later parameter is refused, and after unload.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "../../rust-bindings/bindings_helper.h"

#define CTSKIP_VERSION "0.1.0"

MODULE_VERSION(CTSKIP_VERSION);

const char *ctskip_param_version(void)
{
	return CTSKIP_VERSION;
}

/* Freed here unless Rust takes it. Set only before the module's init. */
static char *rules;

/* Appends one more `rules` parameter, behind a newline. */
static int rules_set(const char *val, const struct kernel_param *kp)
{
	char **text = kp->arg;
	size_t old = *text ? strlen(*text) + 1 : 0;
	size_t size = strlen(val) + 1;
	char *joined;

	joined = kvmalloc(old + size, GFP_KERNEL);
	if (!joined)
		return -ENOMEM;
	if (old) {
		memcpy(joined, *text, old);
		joined[old - 1] = '\n';
	}
	memcpy(joined + old, val, size);

	kvfree(*text);
	*text = joined;
	return 0;
}

static void rules_free(void *arg)
{
	char **text = arg;

	kvfree(*text);
	*text = NULL;
}

static const struct kernel_param_ops rules_ops = {
	.set = rules_set,
	.free = rules_free,
};

module_param_cb(rules, &rules_ops, &rules, 0);
__MODULE_PARM_TYPE(rules, "string");
MODULE_PARM_DESC(rules,
		 "The first table: rules separated by ';' or a newline; without white space, '+' stands for a space (but between flags of TCP) and '++' for ';'. Several add up. (default: none)");

/**
 * ctskip_param_take_rules() - take the text of the rules parameters out
 *
 * Context: Any context.
 * Return: The text, for the caller to kvfree(), or NULL if there is none or it was taken before.
 */
char *ctskip_param_take_rules(void)
{
	return xchg(&rules, NULL);
}

/* mode() in params.rs knows their numbers. */
static const char * const modes[] = { "skip", "observe", "off" };
static unsigned int mode;

static int mode_set(const char *val, const struct kernel_param *kp)
{
	int i = sysfs_match_string(modes, val);

	if (i < 0) {
		pr_err("mode=%*pE: expected skip, observe or off\n", (int)strlen(val), val);
		return -EINVAL;
	}
	*(unsigned int *)kp->arg = i;
	return 0;
}

static const struct kernel_param_ops mode_ops = {
	.set = mode_set,
};

module_param_cb(mode, &mode_ops, &mode, 0);
__MODULE_PARM_TYPE(mode, "string");
MODULE_PARM_DESC(mode,
		 "skip: act by the rules; observe: match and count, mark nothing; off: do nothing (default: skip)");

unsigned int ctskip_param_mode(void)
{
	return mode;
}

static bool icmp_errors = true;
module_param(icmp_errors, bool, 0);
MODULE_PARM_DESC(icmp_errors, "An ICMP error follows the flow that it quotes (default: 1)");

bool ctskip_param_icmp_errors(void)
{
	return icmp_errors;
}

static unsigned int worst_lookup = 8192;
module_param(worst_lookup, uint, 0444);
MODULE_PARM_DESC(worst_lookup,
		 "A table is refused by which the lookup of one packet may take more instructions than this, roughly; 0: none is (default: 8192)");

unsigned int ctskip_param_worst_lookup(void)
{
	return worst_lookup;
}
