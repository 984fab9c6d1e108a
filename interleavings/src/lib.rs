// SPDX-License-Identifier: GPL-2.0

//! A word whose accesses loom orders in all ways that the memory model allows.

use ctskip_pure::flows::word::Word;
use loom::sync::atomic::{
    fence,
    AtomicU64,
    Ordering, //
};

/// The word, accessed as that of the kernel is.
pub struct Modelled(AtomicU64);

impl Word for Modelled {
    fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        let relaxed = Ordering::Relaxed;
        self.0.compare_exchange(old, new, relaxed, relaxed).is_ok()
    }

    fn fence() {
        fence(Ordering::SeqCst);
    }
}
