//! What is shared by accounts in the same room, and by a room's accounts across restarts.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};
use enjamb_muc_fork::view::{Likeness, likeness};
use enjamb_muc_fork::{Accounts, Change, Config, Mark, Offline, Restored, RestoredClient, chat};
use std::collections::BTreeMap;
use support::{random, sent_id};

const ADA: &str = "ada@a.example";
const BOB: &str = "bob@a.example";
const ROOM: &str = "room@c.example";

fn from<'a>(account: &'a str, nick: &'a str, id: Option<&'a str>) -> FromRoom<'a> {
    FromRoom { account, room: ROOM, nick: Some(nick), id }
}

fn presence(nick: &str, status: &str) -> Vec<u8> {
    format!("<presence from='{ROOM}/{nick}'><status>{status}</status></presence>").into_bytes()
}

fn occupant(accounts: &mut Accounts, account: &str, nick: &str, status: &str) -> Vec<Decision> {
    let said = MucUser::default();
    let bytes = presence(nick, status);
    accounts.presence_from_room(from(account, nick, None), Presence::Available, said, &bytes, 2).unwrap()
}

/// What is left of a restart.
#[derive(Default)]
struct Kept {
    occupants: BTreeMap<String, Likeness>,
    said: Vec<Mark>,
}

impl Kept {
    fn note(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Occupant { nick, likeness, .. } => {
                    self.occupants.insert(nick.into(), likeness);
                }
                Change::Gone { nick, .. } => {
                    self.occupants.remove(&*nick);
                }
                Change::Message { mark, .. } => self.said.push(mark),
                Change::Forgotten { .. } => *self = Kept::default(),
            }
        }
    }
}

/// An account with one client that was in the room before a restart; the `id` of its join.
fn restore(accounts: &mut Accounts, account: &str, kept: &Kept) -> String {
    let client = RestoredClient {
        resource: "phone".into(),
        asked: account[..3].into(),
        presence: b"<presence/>".to_vec(),
        waits: None,
    };
    let kept = Restored {
        room: ROOM.into(),
        nick: account[..3].into(),
        clients: vec![client],
        occupants: kept.occupants.clone().into_iter().collect(),
        said: kept.said.clone(),
        ..Restored::default()
    };
    sent_id(&accounts.restore(account, kept, true, 1))
}

fn let_in(accounts: &mut Accounts, account: &str, id: &str) -> Vec<Decision> {
    let nick = &account[..3];
    let said = MucUser { codes: &[110], ..MucUser::default() };
    let own = presence(nick, "");
    accounts.presence_from_room(from(account, nick, Some(id)), Presence::Available, said, &own, 3).unwrap()
}

/// Both accounts are in.
fn both_in() -> (Accounts, Kept) {
    let mut accounts = Accounts::new(random);
    let mut kept = Kept::default();
    for account in [ADA, BOB] {
        let id = restore(&mut accounts, account, &kept);
        occupant(&mut accounts, account, "eve", "here");
        let_in(&mut accounts, account, &id);
        subject(&mut accounts, account);
    }
    kept.note(accounts.take_changes());
    assert_eq!(kept.occupants["eve"], likeness(&presence("eve", "here")));
    (accounts, kept)
}

fn subject(accounts: &mut Accounts, account: &str) {
    let room = FromRoom { nick: None, ..from(account, "", None) };
    accounts.groupchat(room, &chat::read(b"<message><subject/></message>", ROOM), 4, |_| {}).unwrap();
}

#[test]
fn who_is_gone_is_kept_from_nobody_by_a_restart_within_another() {
    let (_, kept) = both_in();
    // The server starts again, and its log is written anew before the room answers.
    let mut accounts = Accounts::new(random);
    restore(&mut accounts, ADA, &kept);
    let mut again = Kept::default();
    again.note(accounts.snapshot());
    assert_eq!(again.occupants, kept.occupants);
    assert_eq!(again.said, kept.said);
    // It is killed, and starts once more; eve has left the room meanwhile.
    let mut accounts = Accounts::new(random);
    let id = restore(&mut accounts, ADA, &again);
    occupant(&mut accounts, ADA, "bob", "");
    let told = let_in(&mut accounts, ADA, &id);
    let gone = |d: &Decision| matches!(d, Decision::Serve { stanza, .. } if stanza.starts_with(b"<presence from='room@c.example/eve' type='unavailable'"));
    assert!(told.iter().any(gone), "{told:?}");
}

#[test]
fn a_join_by_iq_while_the_account_leaves_finds_it_online() {
    let mut accounts = Accounts::new(random);
    accounts.configure("a.example", Config { offline: Offline::Leave, ..Config::default() });
    let id = restore(&mut accounts, ADA, &Kept::default());
    let_in(&mut accounts, ADA, &id);
    let phone = FromClient { account: ADA, resource: "phone", room: ROOM, nick: Some("ada"), id: Some("l") };
    accounts.presence_from_client(phone, Presence::Unavailable, None, b"<presence/>", 4).unwrap();
    let id = sent_id(&accounts.pam_join(FromClient { id: Some("p"), ..phone }, "ada", 5));
    let said = MucUser { codes: &[110], ..MucUser::default() };
    accounts.presence_from_room(from(ADA, "ada", None), Presence::Unavailable, said, b"<presence/>", 5);
    let_in(&mut accounts, ADA, &id);
    for now in 5..300 {
        accounts.tick(now);
    }
    assert!(accounts.clients(ADA, ROOM).is_some(), "it is there as the account's own");
}

/// An account joins with two clients, of which the second one shows something else.
fn join_by_name(accounts: &mut Accounts, account: &str) {
    for (resource, show) in [("phone", "<presence/>"), ("desk", "<presence><show>dnd</show></presence>")] {
        let client = FromClient { account, resource, room: ROOM, nick: Some(&account[..3]), id: Some("j") };
        let join = Some(Join::default());
        accounts.presence_from_client(client, Presence::Available, join, show.as_bytes(), 1).unwrap();
    }
    // The room says neither whose presence it is nor what it answers.
    occupant(accounts, account, &account[..3], "");
}

#[test]
fn nobody_is_told_what_another_account_has_changed_meanwhile() {
    let mut accounts = Accounts::new(random);
    join_by_name(&mut accounts, ADA);
    join_by_name(&mut accounts, BOB);
    let all = accounts.tick(10);
    // A room of the same server answers the first of these within the call, and everybody hears of it.
    let sends = all.iter().position(|d| matches!(d, Decision::Send { .. })).unwrap();
    let sent = all[sends..].iter().filter(|d| matches!(d, Decision::Send { .. })).count();
    assert!(sent >= 2);
    assert!(!all[sends..].iter().any(|d| matches!(d, Decision::Serve { .. })), "{all:?}");
}

#[test]
fn who_leaves_is_told_though_another_leaves_whose_nickname_the_account_asks_for() {
    for told_first in [true, false] {
        let mut accounts = Accounts::new(random);
        accounts.configure("a.example", Config { offline: Offline::Leave, ..Config::default() });
        let client =
            |resource, nick| FromClient { account: ADA, resource, room: ROOM, nick: Some(nick), id: None };
        let join = || Some(Join::default());
        let phone = client("phone", "ada");
        let joined = accounts.presence_from_client(phone, Presence::Available, join(), b"<presence/>", 1);
        let first = sent_id(&joined.unwrap());
        accounts.presence_from_client(phone, Presence::Unavailable, None, b"<presence/>", 1).unwrap();
        accounts.presence_from_client(client("desk", "eve"), Presence::Available, join(), b"<presence/>", 1);
        // What the room says of the stay that is ending, in which somebody else has been eve.
        if told_first {
            let_in(&mut accounts, ADA, &first);
        }
        occupant(&mut accounts, ADA, "eve", "");
        let mut gone = |nick, codes: &[u16]| {
            let said = MucUser { codes, ..MucUser::default() };
            let from = from(ADA, nick, None);
            let all = accounts.presence_from_room(from, Presence::Unavailable, said, b"<presence/>", 3);
            let all = all.unwrap();
            all.iter().any(|d| match d {
                Decision::Forward { resource, edit } => {
                    &**resource == "phone" && (codes.contains(&110) || edit.with.contains(&110))
                }
                _ => false,
            })
        };
        assert!(gone("eve", &[]) != gone("ada", &[110]), "the phone is told once that it is out");
    }
}
