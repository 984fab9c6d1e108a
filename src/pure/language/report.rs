// SPDX-License-Identifier: GPL-2.0

//! The report of a refused text, in `last_error` and in the log.

use core::fmt::{
    self,
    Display,
    Formatter,
    Write, //
};

use crate::pure::{
    alloc::NoMemory,
    language::refusal::Refusal, //
};

/// The most bytes of the offending line that are kept.
const EXCERPT: usize = 160;

/// A refusal with the line that it is about.
#[derive(Clone)]
pub struct Report {
    refusal: Refusal,
    line: u32,
    /// The part of the line around the column, with `?` for a byte that does not print.
    excerpt: [u8; EXCERPT],
    len: usize,
    /// The column in the excerpt.
    caret: usize,
}

impl Report {
    /// Returns the report of `refusal` in `text`, the line of number `line`, from 1; 0: no line.
    pub fn new(refusal: Refusal, line: u32, text: &[u8]) -> Self {
        let start = refusal.column.saturating_sub(EXCERPT / 2);
        let start = start.min(text.len().saturating_sub(EXCERPT));
        let mut report = Self {
            caret: refusal.column.saturating_sub(start),
            refusal,
            line,
            excerpt: [0; EXCERPT],
            len: 0,
        };
        let text = text.get(start..).unwrap_or_default().trim_ascii_end();
        for (to, from) in report.excerpt.iter_mut().zip(text) {
            *to = match from {
                b' '..=b'~' => *from,
                b'\t' => b' ',
                _ => b'?',
            };
            report.len = report.len.saturating_add(1);
        }
        report
    }

    /// Returns the report of `refusal` of a text as a whole, with `about` in the place of a line.
    pub fn of_all(refusal: Refusal, about: impl Display) -> Self {
        let mut report = Self::new(refusal, 0, b"");
        // What does not fit is left out.
        let _ = write!(report, "{about}");
        report
    }

    /// Returns the refusal.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Returns the number of the line, from 1; 0 where the refusal is about no line.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the column in the line, from 1.
    pub fn column(&self) -> usize {
        self.refusal.column.saturating_add(1)
    }

    /// Returns the column in [`Self::excerpt`], from 0.
    pub fn caret(&self) -> usize {
        self.caret
    }

    /// Returns the part of the line around the column.
    pub fn excerpt(&self) -> &str {
        let text = self.excerpt.get(..self.len).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }
}

impl Write for Report {
    /// Appends to the excerpt. Fails where that is full.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.excerpt.iter_mut().skip(self.len);
        let fits = room.len() >= text.len();
        for (to, from) in room.zip(text.bytes()) {
            *to = from;
            self.len = self.len.saturating_add(1);
        }
        match fits {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

impl From<NoMemory> for Report {
    fn from(error: NoMemory) -> Self {
        Self::new(error.into(), 0, b"")
    }
}

/// The lines of `last_error` from `error=` on.
///
/// ```text
/// error=an unknown word
/// expected=add insert delete flush purge load, a protocol, or one of skip track ip ip6 src= ...
/// likely=dport=
/// text=tcp dports=80
/// here=    ^
/// ```
impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "error={}", self.refusal.what)?;
        writeln!(f, "expected={}", self.refusal.expected)?;
        f.write_str("likely=")?;
        if let Some(likely) = &self.refusal.likely {
            likely.fmt(f)?;
        }
        writeln!(f, "\ntext={}", self.excerpt())?;
        f.write_str("here=")?;
        if self.len != 0 && self.line != 0 {
            for _ in 0..self.caret.min(EXCERPT) {
                f.write_char(' ')?;
            }
            f.write_char('^')?;
        }
        f.write_char('\n')
    }
}
