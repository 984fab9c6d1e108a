// SPDX-License-Identifier: GPL-2.0

//! The lines of the kernel's log that a packet causes: why rules do not act in its namespace.
//!
//! Each is logged once for a namespace, until the table or the mode changes, and for so many namespaces
//! only: anyone may make many, and set up NAT in them.

use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

use crate::linux::net::NetHandle;

/// The number of namespaces that one kind of line names after a change.
pub(crate) const MOST: usize = 16;

/// What a packet may find in its namespace.
#[derive(Clone, Copy)]
pub(crate) enum Notice {
    /// The NAT guard holds a rule's packets.
    Held,
    /// Packets have a template before ctskip sees them, and are left alone.
    Template,
}

impl Notice {
    /// The number of these.
    pub(crate) const COUNT: usize = Self::Template as usize + 1;
}

/// The notices of all namespaces since the last change.
static COUNT: Atomic<i32> = Atomic::new(0);

/// Lets as many notices be logged again, after a change.
pub(crate) fn reset() {
    COUNT.store(0, Relaxed);
}

/// Which notices of a namespace were logged since the last change.
pub(crate) struct Notices([Atomic<i32>; Notice::COUNT]);

impl Notices {
    /// Returns none.
    pub(crate) fn new() -> Self {
        Self([const { Atomic::new(0) }; Notice::COUNT])
    }

    /// Forgets them, after a change.
    pub(crate) fn reset(&self) {
        for told in &self.0 {
            told.store(0, Relaxed);
        }
    }

    /// Notes that a notice is logged, and returns whether it was before. Any context.
    pub(crate) fn is_told(&self, notice: Notice) -> bool {
        let Some(told) = self.0.get(notice as usize) else {
            return true;
        };
        told.load(Relaxed) != 0 || told.xchg(1, Relaxed) != 0
    }

    /// Logs a notice of the namespace `net`, if it was not logged before. Any context.
    #[cold]
    #[inline(never)]
    pub(crate) fn tell(&self, notice: Notice, net: &NetHandle) {
        if self.is_told(notice) {
            return;
        }
        match usize::try_from(COUNT.fetch_add(1, Relaxed)) {
            Ok(0..MOST) => match notice {
                Notice::Held => pr_warn!(
                    "rules are held in netns {} from now on: NAT is in use there, and they do not say nat=ok\n",
                    format_args!("{net}"),
                ),
                Notice::Template => pr_warn!(
                    "no rule acts on some packets in netns {}: they have a template, as a conntrack zone gives them, before ctskip sees them\n",
                    format_args!("{net}"),
                ),
            },
            Ok(MOST) => pr_warn!("rules do not act in further namespaces: see the file netns\n"),
            _ => {}
        }
    }
}
