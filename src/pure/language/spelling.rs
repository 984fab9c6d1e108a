// SPDX-License-Identifier: GPL-2.0

//! The word that a misspelt word was probably meant to be.

/// Returns the one of `words` that is nearest to `text`; [`None`] where none is near.
///
/// The edit distance counts, letter case apart, and two neighbours that changed places count once. For
/// example, `dpotr=` is near to `dport=`, and `udpp` to `udp`.
pub(super) fn nearest(
    words: impl Iterator<Item = &'static str>,
    text: &[u8],
) -> Option<&'static str> {
    let distance_to = |word: &str| match is_transposed(text, word.as_bytes()) {
        true => 1,
        false => distance(text, word.as_bytes()),
    };
    let distances = words.map(|word| (distance_to(word), word));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    // A short word is near to everything: at most a third of it may differ, and one letter always.
    let most = (word.len() / 3).clamp(1, 2);
    (distance <= most && word.len() > 2).then_some(word)
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

/// Returns the edit distance of two words, letter case apart; 12 where one has 12 bytes or more.
fn distance(a: &[u8], b: &[u8]) -> usize {
    const MAX: usize = 12;
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
