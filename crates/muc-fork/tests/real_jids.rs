//! Clients that join later are shown the real JIDs that the room would show them, and no others.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::{Accounts, chat, input::FromRoom};
use support::{random, sent_id};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
const USER: &str = "xmlns='http://jabber.org/protocol/muc#user'";

fn joins(fork: &mut Accounts, resource: &str) -> Vec<Decision> {
    support::joins(fork, ACCOUNT, resource, &format!("{ROOM}/ada"))
}

fn shows(fork: &mut Accounts, nick: &str, id: &str, inside: &str) -> Vec<Decision> {
    let presence =
        format!("<presence from='{ROOM}/{nick}' to='{ACCOUNT}' id='{id}'><x {USER}>{inside}</x></presence>");
    fork.room_sends(presence.as_bytes(), true, 10).unwrap()
}

fn says(fork: &mut Accounts, inside: &str) {
    let message = format!("<message from='{ROOM}' type='groupchat'>{inside}</message>");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
    fork.groupchat_from_room(from, &chat::read(message.as_bytes(), ROOM), 10, |_| {}).unwrap();
}

fn changes(fork: &mut Accounts, code: u16) {
    says(fork, &format!("<x {USER}><status code='{code}'/></x>"));
}

const WITH: &str = "<item affiliation='none' jid='bob@b.example/x' role='participant'/>";

/// The room answers a join.
fn answers(fork: &mut Accounts, asked: &[Decision], bob: &str, role: &str, codes: &str) -> Vec<Decision> {
    let id = sent_id(asked);
    let mut all = shows(fork, "bob", "", bob);
    all.extend(shows(fork, "ada", &id, &format!("<item role='{role}'/><status code='110'/>{codes}")));
    says(fork, "<subject/>");
    all
}

/// The phone is in the room with bob.
fn in_room(bob: &str, role: &str, codes: &str) -> Accounts {
    let mut fork = Accounts::new(random);
    let asked = joins(&mut fork, "phone");
    answers(&mut fork, &asked, bob, role, codes);
    fork
}

/// Whether a client is shown bob's real JID, each time that it is shown bob.
fn shown(all: &[Decision], to: &str) -> Vec<bool> {
    let bob = all.iter().filter_map(|decision| match decision {
        Decision::Serve { resource, stanza, .. } if **resource == *to => {
            let text = String::from_utf8_lossy(stanza).into_owned();
            text.contains("/bob'").then(|| text.contains("bob@b.example"))
        }
        _ => None,
    });
    bob.collect()
}

#[test]
fn not_those_of_a_room_that_is_semi_anonymous_now() {
    let mut fork = in_room(WITH, "participant", "<status code='100'/>");
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [true]);
    changes(&mut fork, 173);
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [false]);
}

#[test]
fn those_that_a_moderator_still_sees() {
    let mut fork = in_room(WITH, "moderator", "<status code='100'/>");
    changes(&mut fork, 173);
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [true]);
    shows(&mut fork, "ada", "", "<item role='participant'/><status code='110'/>");
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [false]);
}

#[test]
fn those_of_a_non_anonymous_room_whatever_its_role() {
    let mut fork = in_room(WITH, "moderator", "<status code='100'/>");
    shows(&mut fork, "ada", "", "<item role='participant'/><status code='110'/>");
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [true]);
}

/// The room is looked at, as it is now.
fn looks(fork: &mut Accounts, nick: &str) {
    let bob = format!("<presence from='{ROOM}/{nick}'><x {USER}>{WITH}</x></presence>");
    fork.show_jids(ACCOUNT, ROOM, [("ada", &b"<presence/>"[..]), (nick, bob.as_bytes())]);
}

#[test]
fn those_of_a_room_that_is_non_anonymous_now_once_somebody_has_looked() {
    let without = "<item affiliation='none' role='participant'/>";
    let lacks = |fork: &Accounts| fork.lacks_jids(ACCOUNT, ROOM);
    let mut fork = in_room(without, "participant", "");
    assert!(!lacks(&fork));
    looks(&mut fork, "bob");
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [false], "nobody wanted to know");
    changes(&mut fork, 172);
    assert!(lacks(&fork));
    // Who has come since then is known by what the room told.
    looks(&mut fork, "carol");
    assert!(!lacks(&fork));
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [false]);

    let mut fork = in_room(without, "participant", "");
    shows(&mut fork, "ada", "", "<item role='moderator'/><status code='110'/>");
    assert!(lacks(&fork));
    looks(&mut fork, "bob");
    assert_eq!(shown(&joins(&mut fork, "desk"), "desk"), [true]);
    assert!(!fork.take_changes().is_empty(), "it is kept across a restart");
    // Nothing is looked for that may not be seen.
    let mut fork = in_room(without, "participant", "");
    changes(&mut fork, 172);
    changes(&mut fork, 173);
    assert!(!lacks(&fork));
}
