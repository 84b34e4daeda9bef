//! A client that logs in anew, and joins its rooms again or does not.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_muc_fork::Accounts;
use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};

const ACCOUNT: &str = "ada@a.example";

fn random() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn sent(decisions: &[Decision]) -> Vec<String> {
    let sent = decisions.iter().filter_map(|d| match d {
        Decision::Send { stanza } => Some(String::from_utf8_lossy(stanza).into_owned()),
        _ => None,
    });
    sent.collect()
}

fn join(fork: &mut Accounts, room: &str, payload: &[u8], now: u64) -> Vec<Decision> {
    let from = FromClient { account: ACCOUNT, resource: "phone", room, nick: Some("ada"), id: Some("j") };
    fork.presence_from_client(from, Presence::Available, Some(Join::default()), payload, now).unwrap()
}

#[test]
fn keeps_its_places_where_it_joins_again() {
    let mut fork = Accounts::new(random);
    for room in ["one@c.example", "two@c.example"] {
        let asked = sent(&join(&mut fork, room, b"<presence/>", 0)).join("");
        let id = asked.split("id='").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let from = FromRoom { account: ACCOUNT, room, nick: Some("ada"), id: Some(&id) };
        let said = MucUser { codes: &[110], ..MucUser::default() };
        fork.presence_from_room(from, Presence::Available, said, b"<presence/>", 1).unwrap();
    }
    let (turn, decisions) = fork.replaced(ACCOUNT, "phone");
    assert!(decisions.is_empty());
    // It joins one of them, and the room has nothing to tell.
    let again = join(&mut fork, "one@c.example", b"<presence/>", 2);
    assert!(sent(&again).is_empty(), "{again:?}");
    let served = again.iter().filter(|d| matches!(d, Decision::Serve { .. })).count();
    assert!(served > 0);
    let gone = sent(&fork.not_back(ACCOUNT, "phone", turn, true, 32));
    assert!(
        gone.len() == 1 && gone[0].contains("two@c.example") && gone[0].contains("unavailable"),
        "{gone:?}"
    );
    assert!(fork.clients(ACCOUNT, "one@c.example").unwrap().1.contains(&"phone".to_owned()));
    // Said once more, it changes nothing.
    assert!(sent(&fork.not_back(ACCOUNT, "phone", turn, true, 33)).is_empty());
}
