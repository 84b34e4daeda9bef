//! An account that leaves is not kept from it by what a room says about something else.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, MucUser, Presence};
use enjamb_muc_fork::{Accounts, Config, Offline, Restored, RestoredClient};
use support::{random, sent};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
const OWN: &[u8] = b"<presence from='room@c.example/ada'/>";

fn id_of(stanza: &str) -> &str {
    support::id_of(stanza).unwrap()
}

/// How many clients are told something.
fn told(decisions: &[Decision]) -> usize {
    decisions.iter().filter(|d| matches!(d, Decision::Serve { .. } | Decision::Forward { .. })).count()
}

/// An account with one client, whose join is on its way after a restart. The join's `id`.
fn joining() -> (Accounts, String) {
    let mut accounts = Accounts::new(random);
    accounts.configure("a.example", Config { offline: Offline::Leave, ..Config::default() });
    let client = RestoredClient {
        resource: "phone".into(),
        asked: "ada".into(),
        presence: b"<presence/>".to_vec(),
        waits: None,
    };
    let kept = Restored {
        room: ROOM.into(),
        nick: "ada".into(),
        clients: vec![client],
        other_ids: true,
        ..Restored::default()
    };
    let join = sent(&accounts.restore(ACCOUNT, kept, true, 0)).remove(0);
    (accounts, id_of(&join).to_owned())
}

fn room<'a>(nick: &'a str, id: Option<&'a str>) -> FromRoom<'a> {
    FromRoom { account: ACCOUNT, room: ROOM, nick: Some(nick), id }
}

fn phone<'a>(nick: &'a str, id: &'a str) -> FromClient<'a> {
    FromClient { account: ACCOUNT, resource: "phone", room: ROOM, nick: Some(nick), id: Some(id) }
}

fn leaves(accounts: &mut Accounts, now: u64) {
    let left =
        accounts.presence_from_client(phone("ada", "l"), Presence::Unavailable, None, b"<presence/>", now);
    assert_eq!(sent(&left.unwrap()).len(), 1);
}

#[test]
fn a_change_of_nickname_is_no_answer_to_a_join_that_is_over() {
    let (mut accounts, _) = joining();
    // This may be the answer to the join, or of the stay before the restart.
    let said = MucUser { codes: &[110], ..MucUser::default() };
    accounts.presence_from_room(room("ada", Some("other")), Presence::Available, said, OWN, 1).unwrap();
    leaves(&mut accounts, 2);
    let said = MucUser { codes: &[110, 303], new_nick: Some("eve"), ..MucUser::default() };
    accounts.presence_from_room(room("ada", None), Presence::Unavailable, said, OWN, 3).unwrap();
    let mut after = Vec::new();
    for now in 3..100 {
        after.extend(accounts.tick(now));
    }
    assert_eq!((told(&after), sent(&after)), (1, Vec::new()), "it is out, and leaves once");
    assert_eq!(accounts.totals().1, 0);
}

#[test]
fn a_probe_that_is_refused_does_not_hold_up_a_leave() {
    let (mut accounts, id) = joining();
    let said = MucUser { codes: &[110], ..MucUser::default() };
    accounts.presence_from_room(room("ada", Some(&id)), Presence::Available, said, OWN, 1).unwrap();
    let asked = accounts.probe_from_client(phone("bob", "p"), 2).unwrap();
    let [Decision::ToRoom { id: enjamb_muc_fork::Id::Set(probe), .. }] = &*asked else {
        panic!("{asked:?}");
    };
    leaves(&mut accounts, 3);
    let said = MucUser { condition: Some("not-acceptable"), ..MucUser::default() };
    let after = accounts.presence_from_room(room("bob", Some(probe)), Presence::Error, said, OWN, 4).unwrap();
    assert_eq!(sent(&after), [""; 0], "nobody asks whether the account is in a room that it leaves");
    assert_eq!(told(&accounts.tick(20)), 1, "the client is told in time");
}
