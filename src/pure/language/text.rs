// SPDX-License-Identifier: GPL-2.0

//! Text cut into statements and words.
//!
//! A newline or `;` ends a statement, `#` starts a comment that runs to the end of the line. In a
//! statement that holds no white space `+` stands for a space and `++` for `;`: so a rule passes
//! through shells, boot loaders and insmod in one piece.

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
    /// Where it starts, counted in bytes from 0 in the line.
    pub column: usize,
}

/// The line up to its comment.
pub fn without_comment(line: &[u8]) -> &[u8] {
    line.split(|b| *b == b'#').next().unwrap_or_default()
}

/// The statements of `line`, which has no newline. Empty ones are left out.
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
    /// Its words, in order; at least one.
    pub fn words(&self) -> impl Iterator<Item = Word<'a>> + Clone {
        let Self { line, text, plus } = *self;
        text.split(move |b| match plus {
            true => *b == b'+',
            false => b.is_ascii_whitespace(),
        })
        .filter(|word| !word.is_empty())
        .map(move |text| Word {
            text,
            column: column(line, text),
        })
    }

    /// Where it starts in its line.
    pub fn column(&self) -> usize {
        column(self.line, self.text)
    }

    /// The place of a `+` that separates nothing: one at the start or the end.
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

/// The pieces of `text` between two `separator`s; all of it in one piece where there is none.
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

/// Where `part`, which is a part of `line`, starts in it.
pub(super) fn column(line: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(line.as_ptr().addr())
}
