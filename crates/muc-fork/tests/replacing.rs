//! A client that logs in anew, and joins its rooms again or does not.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use enjamb_muc_fork::{Accounts, HOLD, chat};
use support::{random, sent, sent_id};

const ACCOUNT: &str = "ada@a.example";

fn join(fork: &mut Accounts, room: &str, payload: &[u8], now: u64) -> Vec<Decision> {
    let from = FromClient { account: ACCOUNT, resource: "phone", room, nick: Some("ada"), id: Some("j") };
    fork.presence_from_client(from, Presence::Available, Some(Join::default()), payload, now).unwrap()
}

/// It is in both rooms.
fn in_two_rooms() -> Accounts {
    let mut fork = Accounts::new(random);
    for room in ["one@c.example", "two@c.example"] {
        let id = sent_id(&join(&mut fork, room, b"<presence/>", 0));
        let from = FromRoom { account: ACCOUNT, room, nick: Some("ada"), id: Some(&id) };
        let said = MucUser { codes: &[110], ..MucUser::default() };
        fork.presence_from_room(from, Presence::Available, said, b"<presence/>", 1).unwrap();
    }
    fork
}

/// What its client is told of a presence and of a message that a room sends.
fn told(fork: &mut Accounts, room: &str, now: u64) -> usize {
    let presence = format!("<presence from='{room}/bob' to='{ACCOUNT}'/>");
    let mut all = fork.room_sends(presence.as_bytes(), true, now).unwrap();
    fork.withhold(&mut all);
    let mut n = all.iter().filter(|d| matches!(d, Decision::Serve { .. })).count();
    let message = format!("<message from='{room}/bob' type='groupchat' id='{now}'><body>hi</body></message>");
    let from = FromRoom { account: ACCOUNT, room, nick: Some("bob"), id: None };
    fork.groupchat_from_room(from, &chat::read(message.as_bytes(), room), now, |_| n += 1).unwrap();
    n
}

#[test]
fn is_told_nothing_until_it_joins_again() {
    let mut fork = in_two_rooms();
    assert_eq!(told(&mut fork, "one@c.example", 10), 2);
    fork.replaced(ACCOUNT, "phone", 20);
    assert_eq!(told(&mut fork, "one@c.example", 21), 0);
    let mut joined = join(&mut fork, "one@c.example", b"<presence/>", 22);
    let before = joined.len();
    fork.withhold(&mut joined);
    assert_eq!(joined.len(), before);
    assert_eq!(told(&mut fork, "one@c.example", 23), 2);
    assert_eq!(told(&mut fork, "two@c.example", 24), 0);
    // One that ends has nothing held.
    fork.client_gone(ACCOUNT, "phone", false, false, None, 25);
    assert!(fork.clients(ACCOUNT, "two@c.example").is_none_or(|(_, clients)| clients.is_empty()));
}

#[test]
fn keeps_its_places_where_it_joins_again() {
    let mut fork = in_two_rooms();
    assert!(fork.replaced(ACCOUNT, "phone", 2).is_empty());
    // It joins one of them, and the room has nothing to tell.
    let again = join(&mut fork, "one@c.example", b"<presence/>", 2);
    assert!(sent(&again).is_empty(), "{again:?}");
    let served = again.iter().filter(|d| matches!(d, Decision::Serve { .. })).count();
    assert!(served > 0);
    assert!(sent(&fork.tick(2 + HOLD - 1)).is_empty());
    let gone = sent(&fork.tick(2 + HOLD));
    assert!(
        gone.len() == 1 && gone[0].contains("two@c.example") && gone[0].contains("unavailable"),
        "{gone:?}"
    );
    assert!(fork.clients(ACCOUNT, "one@c.example").unwrap().1.contains(&"phone".to_owned()));
    // That was all.
    assert!(sent(&fork.tick(2 + 2 * HOLD)).is_empty());
}

/// Whether what its client sends goes to the room as the account's: a request, a message, and a presence that is no join.
fn speaks(fork: &mut Accounts, room: &str, now: u64) -> [bool; 3] {
    let from = FromClient { account: ACCOUNT, resource: "phone", room, nick: Some("ada"), id: Some("s") };
    let ping = fork.iq_from_client(from, Iq::Request, true, Asks::default(), now);
    let to_all = FromClient { nick: None, ..from };
    let message = fork.message_from_client(to_all, Message::Groupchat, None, now);
    let update = fork.presence_from_client(
        from,
        Presence::Available,
        None,
        b"<presence><show>away</show></presence>",
        now,
    );
    let refused = |d: &Decision| matches!(d, Decision::Refuse { .. });
    [ping.is_some(), message.is_some(), !update.unwrap().iter().any(refused)]
}

#[test]
fn is_not_in_for_what_it_sends_until_it_joins_again() {
    let mut fork = in_two_rooms();
    assert_eq!(speaks(&mut fork, "one@c.example", 10), [true; 3]);
    fork.replaced(ACCOUNT, "phone", 20);
    assert_eq!(speaks(&mut fork, "one@c.example", 21), [false; 3]);
    assert!(told(&mut fork, "one@c.example", 22) == 0, "it is in without having joined");
    join(&mut fork, "one@c.example", b"<presence/>", 23);
    assert_eq!(speaks(&mut fork, "one@c.example", 24), [true; 3]);
    assert_eq!(speaks(&mut fork, "two@c.example", 25), [false; 3]);
}
