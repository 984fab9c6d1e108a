// SPDX-License-Identifier: GPL-2.0

//! What a refused text is told: the errno, the place, what was wrong and what was expected.

use core::fmt::{
    self,
    Display,
    Formatter, //
};

use crate::pure::{
    alloc::NoMemory,
    language::print::DisplayPrefix, //
};

/// The errno of a refusal, as in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// EINVAL: the text is wrong.
    Inval,
    /// EEXIST: the id is in use.
    Exist,
    /// ENOENT: no such id or tag.
    NoEnt,
    /// ESRCH: no such network namespace.
    Srch,
    /// ENOSPC: over [`MAX_RULES`](crate::pure::table::MAX_RULES) rules.
    NoSpc,
    /// EBUSY: another writer's `load` is open.
    Busy,
    /// ENOMEM: out of memory.
    NoMem,
}

impl Errno {
    /// The name as in `errno(3)`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inval => "EINVAL",
            Self::Exist => "EEXIST",
            Self::NoEnt => "ENOENT",
            Self::Srch => "ESRCH",
            Self::NoSpc => "ENOSPC",
            Self::Busy => "EBUSY",
            Self::NoMem => "ENOMEM",
        }
    }
}

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the write fails with.
    pub errno: Errno,
    /// The offending byte, counted from 0 in the line.
    pub column: usize,
    /// What is wrong.
    pub what: &'static str,
    /// What was expected there; may be empty.
    pub expected: &'static str,
    /// The spelling that was probably meant.
    pub likely: Option<Likely>,
}

/// What was probably meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likely {
    /// A word or term of the language.
    Word(&'static str),
    /// The prefix without the bits beyond its length.
    Prefix(DisplayPrefix),
}

impl Display for Likely {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

impl Refusal {
    /// EINVAL at `column`.
    pub const fn invalid(column: usize, what: &'static str, expected: &'static str) -> Self {
        Self::new(Errno::Inval, column, what, expected)
    }

    /// `errno` at `column`.
    pub const fn new(
        errno: Errno,
        column: usize,
        what: &'static str,
        expected: &'static str,
    ) -> Self {
        Self {
            errno,
            column,
            what,
            expected,
            likely: None,
        }
    }

    /// The same, with the spelling that was probably meant.
    pub const fn likely(mut self, likely: Option<Likely>) -> Self {
        self.likely = likely;
        self
    }
}

impl From<NoMemory> for Refusal {
    fn from(_: NoMemory) -> Self {
        Self::new(Errno::NoMem, 0, "out of memory", "")
    }
}
