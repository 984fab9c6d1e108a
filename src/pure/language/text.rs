// SPDX-License-Identifier: GPL-2.0

//! Text cut into statements and words.
//!
//! A newline or `;` ends a statement, `#` starts a comment that runs to the end of the line. In a
//! statement that holds no white space `+` stands for a space and `++` for `;`: so a rule passes
//! through shells, boot loaders and insmod in one piece. Only between two flags of TCP, as in
//! `flags=syn+ack`, it stays what it is. A rule behind a command may be written so, too:
//! `add udp+dport=53`.

use crate::pure::rule::TcpFlags;

/// The key of the term whose values are flags of TCP.
pub(super) const FLAGS: &str = "flags=";

/// One statement of a line: a rule or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    line: &'a [u8],
    text: &'a [u8],
    plus: bool,
}

/// One word of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its bytes; never empty.
    pub text: &'a [u8],
    /// Its offset in the line, in bytes.
    pub column: usize,
}

/// Returns the line up to its comment.
pub fn without_comment(line: &[u8]) -> &[u8] {
    line.split(|b| *b == b'#').next().unwrap_or_default()
}

/// Returns the statements of `line`, which has no newline. Empty statements are left out.
pub fn statements(line: &[u8]) -> impl Iterator<Item = Statement<'_>> {
    without_comment(line)
        .split(|b| *b == b';')
        .map(<[u8]>::trim_ascii)
        .flat_map(move |piece| {
            let plus = !piece.iter().any(u8::is_ascii_whitespace);
            let separator = plus.then_some(b"++");
            split(piece, separator).map(move |text| Statement { line, text, plus })
        })
        .filter(|statement| !statement.text.is_empty())
}

impl<'a> Statement<'a> {
    /// Returns its words, in order; at least one.
    pub fn words(&self) -> impl Iterator<Item = Word<'a>> + Clone {
        let Self { line, text, plus } = *self;
        let mut rest = text;
        core::iter::from_fn(move || {
            let start = rest.iter().position(|b| !is_space(*b, plus))?;
            let (_, from) = rest.split_at_checked(start)?;
            let (word, behind) = from.split_at_checked(word_len(from, plus))?;
            rest = behind;
            Some(Word {
                text: word,
                column: column(line, word),
            })
        })
    }

    /// Returns what stands behind `word`, one of its words: the rule behind a command. It may be empty.
    ///
    /// Where that holds no white space, `+` stands for a space in it, whatever stands ahead.
    pub fn behind(&self, word: Word<'_>) -> Self {
        let end = word.column.saturating_add(word.text.len());
        let at = end.saturating_sub(self.column());
        let rest = self.text.get(at..).unwrap_or_default();
        // A `+` that nothing follows is not taken off: it is a stray one.
        let text = match rest.strip_prefix(b"+") {
            Some(text) if self.plus && !text.is_empty() => text,
            _ => rest.trim_ascii_start(),
        };
        Self {
            line: self.line,
            text,
            plus: !text.iter().any(u8::is_ascii_whitespace),
        }
    }

    /// Returns its offset in the line.
    pub fn column(&self) -> usize {
        column(self.line, self.text)
    }

    /// Returns the offset in the line of a `+` that separates nothing: one at the start or the end.
    pub fn stray_plus(&self) -> Option<usize> {
        if !self.plus {
            return None;
        }
        if self.text.starts_with(b"+") {
            return Some(self.column());
        }
        let last = self.text.len().saturating_sub(1);
        (self.text.ends_with(b"+")).then(|| self.column().saturating_add(last))
    }
}

/// Returns whether `byte` separates words; with `plus` in a statement without white space.
fn is_space(byte: u8, plus: bool) -> bool {
    match plus {
        true => byte == b'+',
        false => byte.is_ascii_whitespace(),
    }
}

/// Returns the length of the word at the start of `text`; with `plus` in a statement without white
/// space.
///
/// There, a `+` between two flags of TCP joins them: `tcp+flags=syn+ack+dport=80` is `tcp`,
/// `flags=syn+ack` and `dport=80`. No word of the language is the name of a flag: the table of terms asks
/// for that.
fn word_len(text: &[u8], plus: bool) -> usize {
    let is_end = |b: &u8| is_space(*b, plus);
    let mut len = text.iter().position(is_end).unwrap_or(text.len());
    if plus && text.starts_with(FLAGS.as_bytes()) {
        let pieces = text.split(is_end).skip(1);
        let is_flag = |piece: &&[u8]| {
            let name = piece.split(|b| *b == b'/').next();
            name.is_some_and(|name| TcpFlags::bit(name).is_some())
        };
        for flag in pieces.take_while(is_flag) {
            len = len.saturating_add(1).saturating_add(flag.len());
        }
    }
    len
}

/// Returns the pieces of `text` between two `separator`s; all of it where there is no separator.
fn split<'a>(text: &'a [u8], separator: Option<&'a [u8; 2]>) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest.take()?;
        let cut = separator.and_then(|separator| text.windows(2).position(|w| w == separator));
        let Some((first, after)) = cut.and_then(|at| text.split_at_checked(at)) else {
            return Some(text);
        };
        rest = after.get(2..);
        Some(first)
    })
}

/// Returns the offset of `part`, which is a part of `line`.
pub(super) fn column(line: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(line.as_ptr().addr())
}
