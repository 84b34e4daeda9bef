//! The subject of a room that the account comes back to.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::FromRoom;
use enjamb_muc_fork::{Accounts, Change, Restored, chat};
use support::{random, sent_id};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
const USER: &str = "xmlns='http://jabber.org/protocol/muc#user'";
const DELAY: &str = "<delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:10Z'/>";

fn joins(fork: &mut Accounts, resource: &str) -> Vec<Decision> {
    support::joins(fork, ACCOUNT, resource, &format!("{ROOM}/ada"))
}

/// The room lets the account in that has asked for it.
fn lets_in(fork: &mut Accounts, asked: &[Decision]) {
    let id = sent_id(asked);
    let own = format!(
        "<presence from='{ROOM}/ada' to='{ACCOUNT}' id='{id}'><x {USER}><status code='110'/></x></presence>"
    );
    fork.room_sends(own.as_bytes(), true, 10).unwrap();
}

/// The room tells its subject. Gives who is told at once.
fn tells(fork: &mut Accounts, subject: &str, delay: &str) -> Vec<String> {
    let message =
        format!("<message from='{ROOM}/bob' type='groupchat'><subject>{subject}</subject>{delay}</message>");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("bob"), id: None };
    let mut to = Vec::new();
    let chat = chat::read(message.as_bytes(), ROOM);
    fork.groupchat_from_room(from, &chat, 10, |resource| to.push(resource.to_owned())).unwrap();
    to
}

/// What a client is served of messages.
fn served(all: &[Decision], to: &str) -> Vec<String> {
    let texts = all.iter().filter_map(|decision| match decision {
        Decision::Serve { resource, stanza, .. } if **resource == *to => {
            Some(String::from_utf8_lossy(stanza).into_owned())
        }
        _ => None,
    });
    texts.filter(|text| text.starts_with("<message")).collect()
}

/// The phone is in the room, and the server starts again. Gives what is asked of the room.
fn restarted(said: &[(&str, &str)]) -> (Accounts, Vec<Decision>) {
    let mut before = Accounts::new(random);
    let asked = joins(&mut before, "phone");
    lets_in(&mut before, &asked);
    tells(&mut before, "", "");
    for (subject, delay) in said {
        tells(&mut before, subject, delay);
    }
    let marks = before.take_changes().into_iter().filter_map(|change| match change {
        Change::Message { mark, .. } => Some(mark),
        _ => None,
    });
    let said = marks.collect();
    let kept = before.memberships(ACCOUNT).remove(0);
    let mut fork = Accounts::new(random);
    let asked = fork.restore(ACCOUNT, Restored { said, ..kept }, true, 10);
    (fork, asked)
}

#[test]
fn is_told_to_who_joins_after_a_restart_and_to_nobody_again() {
    let (mut fork, asked) = restarted(&[("new", "")]);
    lets_in(&mut fork, &asked);
    assert!(tells(&mut fork, "new", DELAY).is_empty(), "it was told twice");
    fork.tick(12);
    let told = served(&joins(&mut fork, "desk"), "desk");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("<subject>new</subject>"), "{told:?}");
}

#[test]
fn that_was_changed_meanwhile_is_told() {
    let (mut fork, asked) = restarted(&[("new", "")]);
    lets_in(&mut fork, &asked);
    assert_eq!(tells(&mut fork, "newer", DELAY), ["phone"]);
}

#[test]
fn reaches_a_client_that_waits_while_the_account_joins_again() {
    let (mut fork, asked) = restarted(&[("new", "")]);
    let waits = joins(&mut fork, "desk");
    assert!(served(&waits, "desk").is_empty());
    lets_in(&mut fork, &asked);
    assert_eq!(tells(&mut fork, "new", DELAY), ["desk"]);
    let again = fork.tick(12);
    assert!(served(&again, "desk").iter().all(|text| !text.contains("<subject")), "it was told twice");
}
