//! What several of these tests need.

#![allow(dead_code, reason = "none needs all of it")]

use enjamb_muc_fork::decision::Decision;
use std::sync::atomic::{AtomicU64, Ordering};

/// No two are the same.
pub fn random() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The stanzas that are made here and sent.
pub fn sent(decisions: &[Decision]) -> Vec<String> {
    let sent = decisions.iter().filter_map(|d| match d {
        Decision::Send { stanza } => Some(String::from_utf8_lossy(stanza).into_owned()),
        _ => None,
    });
    sent.collect()
}
