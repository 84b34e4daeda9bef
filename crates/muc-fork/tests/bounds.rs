//! What a room can make grow has a bound.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};
use enjamb_muc_fork::{Accounts, chat};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";

#[test]
fn what_comes_before_the_account_is_in_is_told_or_kept_within_bounds() {
    let mut fork = Accounts::new(|| 7);
    let from = FromClient { account: ACCOUNT, resource: "phone", room: ROOM, nick: Some("ada"), id: None };
    fork.presence_from_client(from, Presence::Available, Some(Join::default()), b"<presence/>", 1).unwrap();
    let room = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("eve"), id: None };
    for n in 0..3000 {
        for delay in ["", "<delay xmlns='urn:xmpp:delay' stamp='2024-01-01T00:00:00Z'/>"] {
            let text = format!(
                "<message from='{ROOM}/eve' type='groupchat' id='{n}'><body>{}</body>{delay}</message>",
                "x".repeat(3000)
            );
            fork.groupchat(room, &chat::read(text.as_bytes(), ROOM), 2, |_| {}).unwrap();
        }
    }
    let own = FromRoom { nick: Some("ada"), ..room };
    let said = MucUser { codes: &[110], ..MucUser::default() };
    let mut all = fork.presence_from_room(own, Presence::Available, said, b"<presence/>", 3).unwrap();
    all.extend(fork.tick(10));
    let bytes: usize = all
        .iter()
        .map(|decision| match decision {
            Decision::Serve { stanza, .. } => stanza.len(),
            _ => 0,
        })
        .sum();
    assert!((1 << 20..5 << 20).contains(&bytes), "{bytes} bytes");
}
