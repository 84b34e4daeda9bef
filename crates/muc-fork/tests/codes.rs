//! What a room tells by status codes reaches a client, whenever one comes.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};
use enjamb_muc_fork::{Accounts, chat};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
const OWN: &[u8] =
    b"<presence from='room@c.example/ada'><x xmlns='http://jabber.org/protocol/muc#user'/></presence>";

fn random() -> u128 {
    7
}

fn bookmarked() -> Accounts {
    let mut fork = Accounts::new(random);
    assert!(!fork.bookmark(ACCOUNT, ROOM, Some(true), Some("ada"), None, true, 1).is_empty());
    fork
}

fn answer(fork: &mut Accounts, codes: &[u16]) -> Vec<Decision> {
    let id = format!("{:032x}", random());
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: Some(&id) };
    fork.presence_from_room(from, Presence::Available, MucUser { codes, ..MucUser::default() }, OWN, 2)
        .unwrap()
}

/// The codes that the client is told of when it joins.
fn joins(fork: &mut Accounts, resource: &str) -> Vec<u16> {
    let from = FromClient { account: ACCOUNT, resource, room: ROOM, nick: Some("ada"), id: Some("j") };
    let all = fork
        .presence_from_client(from, Presence::Available, Some(Join::default()), b"<presence/>", 3)
        .unwrap();
    told(&all)
}

fn told(all: &[Decision]) -> Vec<u16> {
    let mut codes: Vec<u16> = all
        .iter()
        .filter_map(|decision| match decision {
            Decision::Serve { edit, .. } | Decision::Forward { edit, .. } => Some(&edit.with),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    codes.sort_unstable();
    codes
}

#[test]
fn the_first_client_is_told_what_the_join_told() {
    let mut fork = bookmarked();
    answer(&mut fork, &[100, 110, 170, 172, 201, 210, 999]);
    assert_eq!(joins(&mut fork, "phone"), [100, 110, 170, 172, 201, 999]);
    assert_eq!(joins(&mut fork, "desk"), [100, 110, 170]);
}

#[test]
fn a_restart_forgets_none_of_it() {
    let mut fork = bookmarked();
    answer(&mut fork, &[100, 110, 201]);
    let kept = fork.memberships(ACCOUNT).remove(0);
    let mut fork = Accounts::new(random);
    fork.restore(ACCOUNT, kept, true, 4);
    // The room had the account still.
    answer(&mut fork, &[110]);
    assert_eq!(joins(&mut fork, "phone"), [100, 110, 201]);
    assert_eq!(joins(&mut fork, "desk"), [100, 110]);
}

#[test]
fn follows_what_the_room_is() {
    let mut fork = bookmarked();
    answer(&mut fork, &[110]);
    let mut change = |code: u16, from: &str, expected: &[u16]| {
        let bytes = format!(
            "<message from='{from}' type='groupchat'><x xmlns='http://jabber.org/protocol/muc#user'><status code='{code}'/></x></message>"
        );
        let room = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
        fork.groupchat(room, &chat::read(bytes.as_bytes(), ROOM), 5, |_| {}).unwrap();
        assert_eq!(joins(&mut fork, "phone"), expected, "{code} from {from}");
    };
    change(172, ROOM, &[100, 110]);
    change(170, ROOM, &[100, 110, 170]);
    change(173, "room@c.example/eve", &[100, 110, 170]);
    change(173, ROOM, &[110, 170]);
    change(171, ROOM, &[110]);
}

#[test]
fn what_the_room_was_when_the_account_joined_is_not_told_any_more() {
    let mut fork = bookmarked();
    let own = "<presence from='room@c.example/ada'><x xmlns='http://jabber.org/protocol/muc#user'>\
               <status code='170'/></x></presence>";
    let id = format!("{:032x}", random());
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: Some(&id) };
    let said = MucUser { codes: &[110, 170], ..MucUser::default() };
    fork.presence_from_room(from, Presence::Available, said, own.as_bytes(), 2).unwrap();
    let bytes = "<message type='groupchat'><x xmlns='http://jabber.org/protocol/muc#user'><status code='171'/></x></message>";
    let room = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
    fork.groupchat(room, &chat::read(bytes.as_bytes(), ROOM), 5, |_| {}).unwrap();
    let from =
        FromClient { account: ACCOUNT, resource: "phone", room: ROOM, nick: Some("ada"), id: Some("j") };
    let all = fork
        .presence_from_client(from, Presence::Available, Some(Join::default()), b"<presence/>", 3)
        .unwrap();
    let own = all.iter().find_map(|decision| match decision {
        Decision::Serve { edit, .. } if edit.with.contains(&110) => Some(edit),
        _ => None,
    });
    let own = own.unwrap();
    assert!(own.without.contains(&170) && !own.with.contains(&170), "{own:?}");
}

#[test]
fn one_client_makes_the_room_that_was_forgotten() {
    let mut fork = bookmarked();
    answer(&mut fork, &[110]);
    joins(&mut fork, "phone");
    joins(&mut fork, "desk");
    // A presence error that says that the account is out.
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: None };
    let said = MucUser { condition: Some("not-acceptable"), ..MucUser::default() };
    fork.presence_from_room(from, Presence::Error, said, b"<presence/>", 6).unwrap();
    assert_eq!(told(&answer(&mut fork, &[110, 201])), [110, 110, 201]);
}

#[test]
fn is_told_that_a_room_changed_while_it_had_forgotten_the_account() {
    let mut fork = bookmarked();
    answer(&mut fork, &[100, 110]);
    joins(&mut fork, "phone");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: None };
    let said = MucUser { condition: Some("not-acceptable"), ..MucUser::default() };
    fork.presence_from_room(from, Presence::Error, said, b"<presence/>", 6).unwrap();
    assert_eq!(told(&answer(&mut fork, &[110])), [110]);
}

#[test]
fn remembers_only_so_many() {
    let mut fork = bookmarked();
    let mut codes: Vec<u16> = (300..9000).collect();
    codes.push(110);
    answer(&mut fork, &codes);
    assert_eq!(joins(&mut fork, "phone").len(), 33);
}
