// SPDX-License-Identifier: GPL-2.0

//! How Linux is called: a safe interface to each part of the kernel that ctskip uses.
//!
//! All `unsafe` code is in this folder: `make lint` refuses it elsewhere. No code here knows what
//! ctskip decides. Of the pure core, the wrappers use only plain types, such as a family or the
//! name of a device, and the functions that make them.
//!
//! A file imports only from files that stand above it in this table:
//!
//! | File        | Part of Linux                          | C header                            |
//! |-------------|----------------------------------------|-------------------------------------|
//! | `bindings`  | raw bindings, made by `bindgen`        | `rust-bindings/bindings_helper.h`   |
//! | `compat`    | functions that a kernel crate may lack | `linux/rcupdate.h`                  |
//! | `memory`    | memory for arrays                      | `linux/slab.h`, `linux/vmalloc.h`   |
//! | `params`    | module parameters (with `params.c`)    | `linux/moduleparam.h`               |
//! | `ratelimit` | limits of lines in the log             | `linux/ratelimit.h`                 |
//! | `task`      | the current task                       | `linux/sched.h`                     |
//! | `workqueue` | the module's workqueue                 | `linux/workqueue.h`                 |
//! | `rcu`       | values that are replaced under RCU     | `linux/rcupdate.h`                  |
//! | `net`       | network namespaces                     | `net/net_namespace.h`               |
//! | `conntrack` | conntrack's figures and entries        | `net/netfilter/nf_conntrack.h`      |
//! | `accept`    | the verdict of a hook function         | `uapi/linux/netfilter.h`            |
//! | `percpu`    | per-CPU counters                       | `linux/percpu.h`                    |
//! | `skb`       | packets                                | `linux/skbuff.h`                    |
//! | `netfilter` | hooks                                  | `linux/netfilter.h`                 |
//! | `pernet`    | state and hooks in each namespace      | `net/netns/generic.h`               |
//! | `sysfs`     | files                                  | `linux/sysfs.h`, `linux/kernfs.h`   |

pub(crate) mod accept;
mod bindings;
pub(crate) mod compat;
pub(crate) mod conntrack;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod netfilter;
pub(crate) mod params;
pub(crate) mod percpu;
pub(crate) mod pernet;
pub(crate) mod ratelimit;
pub(crate) mod rcu;
pub(crate) mod skb;
pub(crate) mod sysfs;
pub(crate) mod task;
pub(crate) mod workqueue;
