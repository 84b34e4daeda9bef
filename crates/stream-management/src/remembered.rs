//! The counts of sessions that are gone: a client that comes back too late learns what had been handled
//! (XEP-0198 §5, the `h` of `<failed/>`).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One session that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub id: String,
    /// When it ended, in seconds since 1970.
    pub at: u64,
}

/// Which of an account's sessions to forget so that `allowed` remain: the oldest.
pub fn forgotten(sessions: Vec<Remembered>, allowed: usize) -> Vec<String> {
    let latest_first: BinaryHeap<_> = sessions.into_iter().map(|s| (Reverse(s.at), s.id)).collect();
    latest_first.into_sorted_vec().into_iter().skip(allowed).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let sessions: Vec<_> =
            [("a", 3), ("b", 1), ("c", 2)].map(|(id, at)| Remembered { id: id.into(), at }).into();
        assert_eq!(forgotten(sessions.clone(), 2), ["b"]);
        assert_eq!(forgotten(sessions.clone(), 0), ["a", "c", "b"]);
        assert!(forgotten(sessions, 3).is_empty());
    }
}
