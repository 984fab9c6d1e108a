// SPDX-License-Identifier: GPL-2.0

//! Sorting in place, in guaranteed time, without a way to panic.
//!
//! The standard library's sort panics where an order contradicts itself; the kernel's objtool does
//! not know that those paths do not return, and complains.

/// Sorts by what `key` gives; equal elements in any order. Heapsort: no memory, n log n at worst.
pub fn sort_by_key<T, K: Ord>(slice: &mut [T], key: impl Fn(&T) -> K) {
    // As most often what is sorted is.
    if slice.is_sorted_by_key(&key) {
        return;
    }
    for root in (0..slice.len() / 2).rev() {
        sift_down(slice, root, &key);
    }
    for end in (1..slice.len()).rev() {
        // The greatest goes behind the others.
        if let Some(heap) = slice.get_mut(..=end) {
            heap.swap(0, end);
        }
        if let Some(heap) = slice.get_mut(..end) {
            sift_down(heap, 0, &key);
        }
    }
}

/// Moves the element at `root` down until no child is greater.
fn sift_down<T, K: Ord>(heap: &mut [T], mut root: usize, key: impl Fn(&T) -> K) {
    loop {
        let left = root.saturating_mul(2).saturating_add(1);
        let right = left.saturating_add(1);
        let key_at = |index: usize| heap.get(index).map(&key);
        // `None` is less than any key.
        let child = if key_at(right) > key_at(left) {
            right
        } else {
            left
        };
        if key_at(child) <= key_at(root) {
            return;
        }
        heap.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts(mut values: Vec<u16>) {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            super::sort_by_key(&mut values, |value| *value);
            prop_assert_eq!(values, sorted);
        }
    }
}
