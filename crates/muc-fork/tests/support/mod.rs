//! What several of these tests need.

#![allow(dead_code, reason = "none needs all of it")]

use enjamb_muc_fork::Accounts;
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

/// The `id` of a stanza.
pub fn id_of(stanza: &str) -> Option<&str> {
    stanza.split_once(" id='")?.1.split('\'').next()
}

/// That of the first stanza that is sent.
pub fn sent_id(decisions: &[Decision]) -> String {
    let sent = sent(decisions);
    sent.first().and_then(|stanza| id_of(stanza)).expect("something with an id is sent").to_owned()
}

/// A client joins, by a stanza.
pub fn joins(fork: &mut Accounts, account: &str, resource: &str, occupant: &str) -> Vec<Decision> {
    let join =
        format!("<presence to='{occupant}' id='j'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    fork.client_sends(account, resource, join.as_bytes(), false, 10).expect("it is of concern")
}
