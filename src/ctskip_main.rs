// SPDX-License-Identifier: GPL-2.0

//! ctskip: keeps the flows that its rules name out of conntrack, in every network namespace.
//!
//! The way of a rule is `sysfs` (a write) -> `files` -> `control` -> `pure` (text -> rule -> table
//! -> matcher) -> `control` (published) -> `rcu`. The way of a packet is `netfilter` (the hook) ->
//! `packet` -> `pure` (headers -> matcher -> verdict) -> `skb` (the mark).
//!
//! `unsafe` stands in the wrappers of the kernel only: `compat`, `conntrack`, `memory`, `netfilter`,
//! `params`, `percpu`, `pernet`, `rcu`, `skb`, `sysfs`, `task`, `workqueue`. `make lint` holds all
//! code to it.

#![crate_name = "ctskip"]

use kernel::{
    prelude::*,
    sync::Arc, //
};

mod bindings;
mod compat;
mod conntrack;
mod control;
mod files;
mod held;
mod memory;
mod netfilter;
mod packet;
mod params;
mod percpu;
mod pernet;
pub mod pure;
mod rcu;
mod skb;
mod sysfs;
mod task;
mod workqueue;

use crate::{
    control::Control,
    files::Files,
    packet::NetState,
    pernet::Registration,
    workqueue::Workqueue, //
};

module! {
    type: Ctskip,
    name: "ctskip",
    authors: ["The ctskip developers"],
    description: "Keeps flows out of conntrack by rules, in every network namespace",
    license: "GPL",
}

/// The module as loaded. Its parts go in this order: nobody writes any more, no packet comes any
/// more, then what both have used.
struct Ctskip {
    _files: Pin<KBox<Files>>,
    _nets: Registration<NetState>,
    control: Arc<Control>,
    _queue: Workqueue,
}

impl kernel::Module for Ctskip {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let queue = Workqueue::new(c"ctskip")?;
        let control = Control::new(queue.handle()?, params::mode(), params::icmp_errors())?;
        let nets = Registration::new(control.clone())?;

        // Behind the registration, as rules may name namespaces.
        if let Some(rules) = params::take_rules() {
            control.load_parameter(&rules)?;
        }
        Ok(Self {
            _files: KBox::pin_init(Files::new(control.clone()), GFP_KERNEL)
                .inspect_err(|_| control.unload())?,
            _nets: nets,
            control,
            _queue: queue,
        })
    }
}

impl Drop for Ctskip {
    fn drop(&mut self) {
        self.control.unload();
    }
}
