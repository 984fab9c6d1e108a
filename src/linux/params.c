// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameters and version.
 *
 * In C because module! of the kernel crate knows integers and booleans only; the Rust side is
 * params.rs. The standard string parameter ends at 1,024 bytes and keeps the last of several, so
 * `rules` has operations of its own. They run before the module's init, and `free` in every case
 * after it: when it fails, when a later parameter is refused, and on unload.
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

/* Owned here until Rust takes it over; set before the module's init only. */
static char *rules;

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
		 "The first table: rules separated by ';' or a newline; without white space, '+' stands for a space and '++' for ';'. Several add up. (default: none)");

/* NULL, or for the caller to kvfree(). */
char *ctskip_param_take_rules(void)
{
	return xchg(&rules, NULL);
}

/* In the order of `mode()` in params.rs. */
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
