// SPDX-License-Identifier: GPL-2.0

//! The word that a misspelt word was probably meant to be.

/// The word nearest to a text, of those offered so far.
///
/// The edit distance counts, letter case apart, and two neighbours that changed places count once. For
/// example, `dpotr=` is near to `dport=`, and `udpp` to `udp`.
pub(super) struct Nearest<'t> {
    text: &'t [u8],
    /// The first of the words with the least distance.
    best: Option<(usize, &'static str)>,
}

impl<'t> Nearest<'t> {
    /// Returns a search for the word nearest to `text`.
    pub(super) fn to(text: &'t [u8]) -> Self {
        Self { text, best: None }
    }

    /// Takes `word` if it is nearer than all words before it.
    pub(super) fn offer(&mut self, word: &'static str) {
        let distance = match is_transposed(self.text, word.as_bytes()) {
            true => 1,
            false => distance(self.text, word.as_bytes()),
        };
        if self.best.is_none_or(|(least, _)| distance < least) {
            self.best = Some((distance, word));
        }
    }

    /// Returns the nearest word; [`None`] where none is near.
    pub(super) fn word(&self) -> Option<&'static str> {
        let (distance, word) = self.best?;
        // A short word is near to everything: at most a third of it may differ, and one letter always. Of
        // two letters, only the case may: `in=` and `uid=` are not `id=`.
        let most = match word.trim_end_matches('=').len() {
            ..3 => 0,
            _ => (word.len() / 3).clamp(1, 2),
        };
        (distance <= most).then_some(word)
    }
}

/// Returns whether `a` is `b` with two neighbours in each other's place.
fn is_transposed(a: &[u8], b: &[u8]) -> bool {
    let differ = |(_, (x, y)): &(usize, (&u8, &u8))| x != y;
    let mut differences = a.iter().zip(b).enumerate().filter(differ);
    match (differences.next(), differences.next(), differences.next()) {
        (Some((i, (a0, b0))), Some((j, (a1, b1))), None) => {
            a.len() == b.len() && j == i.saturating_add(1) && a0 == b1 && a1 == b0
        }
        _ => false,
    }
}

/// Returns the edit distance of two words, letter case apart; 26 where one has 26 bytes or more.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const MAX: usize = 26;
    if a.len() >= MAX || b.len() >= MAX {
        return MAX;
    }
    let mut row = [0usize; MAX];
    for (i, cell) in row.iter_mut().enumerate() {
        *cell = i;
    }
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let differs = usize::from(!x.eq_ignore_ascii_case(y));
            let above = *cell;
            left = diagonal
                .saturating_add(differs)
                .min(above.saturating_add(1))
                .min(left.saturating_add(1));
            *cell = left;
            diagonal = above;
        }
    }
    row.get(b.len()).copied().unwrap_or(MAX)
}
