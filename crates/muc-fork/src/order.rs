//! Lists in order. They are short, and the standard library's sort is 6 KB of code for each kind of them; a heap is one.

use std::collections::BinaryHeap;

/// The items from the least to the greatest.
pub fn in_order<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    items.into_iter().collect::<BinaryHeap<T>>().into_sorted_vec()
}
