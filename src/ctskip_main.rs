// SPDX-License-Identifier: GPL-2.0

//! ctskip: keeps the flows that its rules name out of conntrack, in every network namespace.
//!
//! The way of a rule, from the write to the packets that it decides:
//!
//! [`linux::sysfs`] (a write) -> [`files`] -> [`writer`] -> [`pure`] (text -> rule -> table -> matcher)
//! -> [`publish`] (a view for each scope) -> [`nets`] (in force) -> [`linux::rcu`].
//!
//! The way of a packet, from the hook to its mark:
//!
//! [`linux::netfilter`] (the hook) -> [`packet`] -> [`pure`] (headers -> matcher -> verdict) ->
//! [`linux::skb`] (the mark).
//!
//! [`linux`] says how Linux is called: all wrappers, and all `unsafe` code. [`pure`] says what is
//! decided, with no kernel in it. The files in between say who does it when. Each uses only those before
//! it: [`notice`], [`packet`], [`publish`], [`nets`], [`purge`], [`log`], [`writer`], [`files`].

#![crate_name = "ctskip"]

use kernel::{
    prelude::*,
    sync::Arc, //
};

use crate::{
    files::Files,
    linux::{
        params,
        pernet::Registration,
        workqueue::Workqueue, //
    },
    packet::NetState,
    writer::{
        Settings,
        Writer, //
    },
};

mod files;
mod linux;
mod log;
mod nets;
mod notice;
mod packet;
mod publish;
pub mod pure;
mod purge;
mod writer;

module! {
    type: Ctskip,
    name: "ctskip",
    authors: ["The ctskip developers"],
    description: "Keeps flows out of conntrack by rules, in every network namespace",
    license: "GPL",
}

/// The module as loaded.
///
/// The fields are dropped in this order: then nobody reads or writes any more, no packet comes any more,
/// the table goes, and last the queue, which waits for all that is still to be freed.
struct Ctskip {
    _files: Pin<KBox<Files>>,
    _nets: Registration<NetState>,
    writer: Arc<Writer>,
    _queue: Workqueue,
}

impl kernel::Module for Ctskip {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let queue = Workqueue::new(c"ctskip")?;
        let writer = Writer::new(
            queue.handle()?,
            params::mode(),
            Settings {
                icmp_errors: params::icmp_errors(),
                worst_lookup: params::worst_lookup(),
            },
        )?;
        let nets = Registration::new(writer.clone())?;

        // Behind the registration, as rules may name namespaces.
        if let Some(rules) = params::take_rules() {
            writer.load_parameter(&rules)?;
        }
        let files = KBox::pin_init(Files::new(writer.clone()), GFP_KERNEL)
            .inspect_err(|_| writer.nets().unload())?;
        log::loaded(writer.nets());
        Ok(Self {
            _files: files,
            _nets: nets,
            writer,
            _queue: queue,
        })
    }
}

impl Drop for Ctskip {
    fn drop(&mut self) {
        self.writer.nets().unload();
    }
}
