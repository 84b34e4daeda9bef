//! Parts of JIDs (RFC 7622), which come in prepared.

/// An occupant's JID (XEP-0045 §3.2).
pub(crate) fn at(room: &str, nick: &str) -> String {
    format!("{room}/{nick}")
}

/// The host of a bare JID.
pub(crate) fn host(account: &str) -> &str {
    account.split_once('@').map_or(account, |(_, host)| host)
}
