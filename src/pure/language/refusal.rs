// SPDX-License-Identifier: GPL-2.0

//! The refusal of a text: the errno, the place, the mistake and what was expected.

use core::fmt::{
    self,
    Display,
    Formatter,
    Write, //
};

use crate::pure::{
    alloc::NoMemory,
    language::print::DisplayPrefix,
    rule::{
        Action,
        Device,
        Range,
        Rule, //
    }, //
};

/// The errno of a refusal, as in `docs/files.md`.
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
    /// ENOSPC: over [`MAX_RULES`](crate::pure::table::MAX_RULES) rules, or no id is left.
    NoSpc,
    /// E2BIG: packets would cost too much, or the compiled table too much memory.
    TooBig,
    /// EBUSY: another writer's `load` is open.
    Busy,
    /// EINTR: a signal ends the writer.
    Intr,
    /// ENODEV: the module goes.
    NoDev,
    /// ENOMEM: out of memory.
    NoMem,
    /// ECANCELED: a `load` ended without `commit`.
    Canceled,
}

impl Errno {
    /// Returns the name as in `errno(3)`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inval => "EINVAL",
            Self::Exist => "EEXIST",
            Self::NoEnt => "ENOENT",
            Self::Srch => "ESRCH",
            Self::NoSpc => "ENOSPC",
            Self::TooBig => "E2BIG",
            Self::Busy => "EBUSY",
            Self::Intr => "EINTR",
            Self::NoDev => "ENODEV",
            Self::NoMem => "ENOMEM",
            Self::Canceled => "ECANCELED",
        }
    }
}

/// The commands, at the start of what is expected in place of an unknown word.
pub(super) const COMMANDS_EXPECTED: &str = "add insert delete flush purge load, ";

/// The refusal of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The errno of the write.
    pub errno: Errno,
    /// The offset of the offending byte in the line, from 0.
    pub column: usize,
    /// The mistake.
    pub what: &'static str,
    /// The text that was expected there; may be empty.
    pub expected: &'static str,
    /// The spelling that was probably meant.
    pub likely: Option<Likely>,
}

/// A spelling that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likely {
    /// A word or term of the language.
    Word(&'static str),
    /// A prefix, in place of the one that is written.
    Prefix(DisplayPrefix),
    /// A number, of a port or else, or a range of them.
    Numbers(Range<u16>),
    /// The name of a device, or the start of names.
    Device(Device),
    /// The whole rule, as this language says it.
    Rule(Rule),
    /// A rule to put ahead of the one that is written.
    Ahead(Rule),
}

impl Likely {
    /// The most bytes of a rule that is shown: nobody reads a longer one.
    const MOST: usize = 160;

    /// Returns this, unless it is too long to be read.
    pub(super) fn if_short(self) -> Option<Self> {
        write!(Room(Self::MOST), "{self}").is_ok().then_some(self)
    }
}

impl Display for Likely {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Numbers(numbers) => numbers.fmt(f),
            Self::Device(device) => device.fmt(f),
            Self::Rule(rule) => {
                // `skip` is what a rule does that does not say it.
                let behind = match rule.action() {
                    Action::Skip => "skip ".len(),
                    Action::Track => 0,
                };
                write!(Tail { behind, to: f }, "{rule}")
            }
            Self::Ahead(rule) => write!(f, "insert {rule}"),
        }
    }
}

/// A sink that leaves out the first bytes of a text.
struct Tail<'a, W> {
    /// The number of bytes that are left out yet.
    behind: usize,
    to: &'a mut W,
}

impl<W: Write> Write for Tail<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left_out = self.behind.min(text.len());
        self.behind = self.behind.saturating_sub(left_out);
        self.to.write_str(text.get(left_out..).unwrap_or_default())
    }
}

/// A sink that has room for so many bytes, and keeps none.
struct Room(usize);

impl Write for Room {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

impl Refusal {
    /// Returns a refusal with EINVAL at `column`.
    pub const fn invalid(column: usize, what: &'static str, expected: &'static str) -> Self {
        Self::new(Errno::Inval, column, what, expected)
    }

    /// Returns a refusal with `errno` at `column`.
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

    /// Returns the refusal where no command may stand: it expects none.
    pub fn without_commands(mut self) -> Self {
        self.expected = self
            .expected
            .strip_prefix(COMMANDS_EXPECTED)
            .unwrap_or(self.expected);
        self
    }

    /// Returns the refusal with the spelling that was probably meant.
    pub fn likely(self, likely: Option<Likely>) -> Self {
        Self { likely, ..self }
    }
}

impl From<NoMemory> for Refusal {
    fn from(_: NoMemory) -> Self {
        Self::new(Errno::NoMem, 0, "out of memory", "")
    }
}
