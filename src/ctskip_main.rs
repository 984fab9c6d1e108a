// SPDX-License-Identifier: GPL-2.0

//! ctskip: keeps the flows that its rules name out of conntrack, in every network namespace.
//!
//! The way of a rule is `sysfs` (a write) -> `files` -> `control` -> `pure` (text -> rule -> table
//! -> matcher) -> `control` (published) -> `rcu`. The way of a packet is `netfilter` (the hook) ->
//! `packet` -> `pure` (headers -> matcher -> verdict) -> `skb` (the mark).
//!
//! `linux` holds all `unsafe` code: how Linux is called. `pure` holds what ctskip decides, with no kernel
//! in it. The files beside these say who does it when.

#![crate_name = "ctskip"]

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    control::Control,
    files::Files,
    linux::{
        params,
        pernet::Registration,
        workqueue::Workqueue, //
    },
    packet::NetState, //
};

mod control;
mod files;
mod held;
mod linux;
mod packet;
pub mod pure;

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
