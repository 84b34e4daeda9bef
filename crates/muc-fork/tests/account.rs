//! What follows for an account from what is known of it, and what is not.

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::fork::GRACE;
use enjamb_muc_fork::input::{FromRoom, Presence, Said};
use enjamb_muc_fork::{Fork, Restored, RestoredClient};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";

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

fn let_in(fork: &mut Fork, now: u64) {
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: None };
    let said = Said { codes: &[110], ..Said::default() };
    let presence = b"<presence from='room@c.example/ada'/>";
    assert!(fork.presence_from_room(from, Presence::Available, said, presence, now).is_some());
}

#[test]
fn stays_in_its_rooms_while_its_bookmarks_are_not_known() {
    for known in [true, false] {
        let mut fork = Fork::new(random);
        let kept = Restored { room: ROOM.into(), nick: "ada".into(), ..Restored::default() };
        assert_eq!(sent(&fork.restore(ACCOUNT, kept, false, 0)).len(), 1);
        fork.bookmarks_known(ACCOUNT, known, 0);
        let_in(&mut fork, 1);
        let mut left = false;
        for now in 1..=GRACE + 10 {
            left |= sent(&fork.tick(now)).iter().any(|s| s.contains("type='unavailable'"));
        }
        assert_eq!(left, known);
        // They are known at last, and there is none.
        fork.bookmarks_known(ACCOUNT, true, GRACE + 10);
        let later = sent(&fork.tick(GRACE + 10));
        assert_eq!(later.iter().any(|s| s.contains("type='unavailable'")), !known);
    }
}

#[test]
fn an_empty_presence_is_one_without_anything_in_it() {
    let mut fork = Fork::new(random);
    let client =
        RestoredClient { resource: "phone".into(), asked: "ada".into(), ..RestoredClient::default() };
    let kept =
        Restored { room: ROOM.into(), nick: "ada".into(), clients: vec![client], ..Restored::default() };
    let join = sent(&fork.restore(ACCOUNT, kept, true, 0)).join("");
    assert!(join.starts_with("<presence from='ada@a.example' to='room@c.example/ada' "), "{join}");
}
