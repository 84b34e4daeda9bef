//! What follows for an account from what is known of it, and what is not.

mod support;

use enjamb_muc_fork::GRACE;
use enjamb_muc_fork::chat;
use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Message, MucUser, Presence};
use enjamb_muc_fork::{Accounts, Full, Limits, Restored, RestoredClient, Waits};
use support::{id_of, random, sent};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";

fn let_in(fork: &mut Accounts, joined: &[Decision], now: u64) {
    let join = sent(joined).join("");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: id_of(&join) };
    let said = MucUser { codes: &[110], ..MucUser::default() };
    let presence = b"<presence from='room@c.example/ada'/>";
    assert!(fork.presence_from_room(from, Presence::Available, said, presence, now).is_some());
}

#[test]
fn stays_in_its_rooms_while_its_bookmarks_are_not_known() {
    for known in [true, false] {
        let mut fork = Accounts::new(random);
        let kept = Restored { room: ROOM.into(), nick: "ada".into(), ..Restored::default() };
        let joined = fork.restore(ACCOUNT, kept, false, 0);
        assert_eq!(sent(&joined).len(), 1);
        fork.bookmarks_known(ACCOUNT, known, 0);
        let_in(&mut fork, &joined, 1);
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
    let mut fork = Accounts::new(random);
    let client =
        RestoredClient { resource: "phone".into(), asked: "ada".into(), ..RestoredClient::default() };
    let kept =
        Restored { room: ROOM.into(), nick: "ada".into(), clients: vec![client], ..Restored::default() };
    let join = sent(&fork.restore(ACCOUNT, kept, true, 0)).join("");
    assert!(join.starts_with("<presence from='ada@a.example' to='room@c.example/ada' "), "{join}");
}

/// A client that was in the room before a restart.
fn phone() -> RestoredClient {
    RestoredClient {
        resource: "phone".into(),
        asked: "ada".into(),
        presence: b"<presence/>".to_vec(),
        waits: None,
    }
}

fn restored(fork: &mut Accounts, client: RestoredClient, joining: bool) -> Vec<Decision> {
    let kept = Restored {
        room: ROOM.into(),
        nick: "ada".into(),
        clients: vec![client],
        joining,
        ..Restored::default()
    };
    fork.restore(ACCOUNT, kept, true, 0)
}

/// The room cannot be reached: each join comes back. Gives when one was sent, and when the clients were told.
fn out_of_reach(fork: &mut Accounts, first: Vec<Decision>) -> (Vec<u64>, Option<u64>) {
    let (mut tries, mut decisions) = (Vec::new(), first);
    for now in 0..100_000 {
        for join in sent(&decisions) {
            tries.push(now);
            let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: id_of(&join) };
            let said = MucUser { condition: Some("remote-server-timeout"), wait: true, ..MucUser::default() };
            let all =
                fork.presence_from_room(from, Presence::Error, said, b"<presence/>", now).unwrap_or_default();
            if all.iter().any(|d| matches!(d, Decision::Serve { .. } | Decision::Forward { .. })) {
                return (tries, Some(now));
            }
        }
        decisions = fork.tick(now + 1);
    }
    (tries, None)
}

#[test]
fn a_room_out_of_reach_is_tried_again_for_ten_minutes_before_its_clients_are_told() {
    let mut fork = Accounts::new(random);
    let first = restored(&mut fork, phone(), false);
    let (tries, told) = out_of_reach(&mut fork, first);
    assert!(told.is_some_and(|told| (600..700).contains(&told)), "{told:?}");
    assert!(tries.windows(3).all(|w| w[1] - w[0] <= w[2] - w[1]), "{tries:?}");
    assert!((8..20).contains(&tries.len()), "{tries:?}");
}

#[test]
fn who_waits_for_its_join_is_told_after_a_minute() {
    let mut fork = Accounts::new(random);
    let waits = Some(Waits::ToBeIn { id: None, request: Default::default(), password: None, was_in: false });
    let first = restored(&mut fork, RestoredClient { waits, ..phone() }, true);
    let (_, told) = out_of_reach(&mut fork, first);
    assert!(told.is_some_and(|told| (60..130).contains(&told)), "{told:?}");
}

#[test]
fn a_server_that_is_back_is_tried_at_once() {
    let mut fork = Accounts::new(random);
    let join = sent(&restored(&mut fork, phone(), false)).join("");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: id_of(&join) };
    let said = MucUser { condition: Some("service-unavailable"), wait: true, ..MucUser::default() };
    fork.presence_from_room(from, Presence::Error, said, b"<presence/>", 0);
    assert!(fork.tick(1).is_empty());
    fork.server_up("c.example", true, 1);
    assert_eq!(sent(&fork.tick(1)).len(), 1);
}

#[test]
fn many_errors_that_nobody_asked_for_make_few_pings() {
    let mut fork = Accounts::new(random);
    let joined = restored(&mut fork, phone(), false);
    let_in(&mut fork, &joined, 1);
    let mut pings = 0;
    for now in 10..70 {
        for _ in 0..100 {
            let from = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
            let said = MucUser { condition: Some("internal-server-error"), ..MucUser::default() };
            let all =
                fork.presence_from_room(from, Presence::Error, said, b"<presence/>", now).unwrap_or_default();
            for ping in sent(&all).into_iter().chain(sent(&fork.tick(now))) {
                pings += 1;
                let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: id_of(&ping) };
                fork.iq_from_room(from, Iq::Result, false, false, None, Asks::default(), now);
            }
        }
    }
    assert!((10..=13).contains(&pings), "{pings} pings in a minute");
}

#[test]
fn requests_without_an_answer_have_a_bound() {
    let mut fork = Accounts::new(random);
    let joined = restored(&mut fork, phone(), false);
    let_in(&mut fork, &joined, 1);
    let (mut given, mut refused) = (0, 0);
    for n in 0..20_000 {
        let id = format!("{n}{}", "x".repeat(100));
        let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("eve"), id: Some(&id) };
        match fork.iq_from_room(from, Iq::Request, false, false, None, Asks::default(), 1).as_deref() {
            Some([Decision::Forward { .. }]) => given += 1,
            Some([Decision::Send { .. }]) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(given < 5000 && refused > 10_000, "{given} {refused}");
    let id = format!("0{}", "x".repeat(100));
    let answer =
        FromClient { account: ACCOUNT, resource: "phone", room: ROOM, nick: Some("eve"), id: Some(&id) };
    assert_eq!(
        fork.iq_from_client(answer, Iq::Result, false, Asks::default(), 1).map(|all| all.len()),
        Some(1)
    );
    assert_eq!(
        fork.iq_from_client(answer, Iq::Result, false, Asks::default(), 1).map(|all| all.len()),
        Some(0)
    );
}

#[test]
fn a_client_that_answers_by_errors_is_gone_after_five_in_a_row() {
    let mut fork = Accounts::new(random);
    let joined = restored(&mut fork, phone(), false);
    let_in(&mut fork, &joined, 1);
    let from =
        FromClient { account: ACCOUNT, resource: "phone", room: ROOM, nick: Some("eve"), id: Some("1") };
    let mut error = |condition| {
        fork.message_from_client(from, Message::Error, Some(condition), GRACE + 1).unwrap_or_default()
    };
    for _ in 0..100 {
        assert!(error("not-acceptable").is_empty());
    }
    for _ in 0..4 {
        assert!(error("service-unavailable").is_empty());
    }
    assert!(sent(&error("service-unavailable")).join("").contains("type='unavailable'"));
}

fn occupant(fork: &mut Accounts, room: &str, n: usize) -> Vec<Decision> {
    let nick = format!("n{n}");
    let from = FromRoom { account: ACCOUNT, room, nick: Some(&nick), id: None };
    let presence = format!("<presence from='{room}/{nick}'>{}</presence>", "x".repeat(200));
    fork.presence_from_room(from, Presence::Available, MucUser::default(), presence.as_bytes(), 2)
        .unwrap_or_default()
}

fn in_room(fork: &mut Accounts, room: &str) {
    let kept =
        Restored { room: room.into(), nick: "ada".into(), clients: vec![phone()], ..Restored::default() };
    let join = sent(&fork.restore(ACCOUNT, kept, true, 0)).join("");
    let from = FromRoom { account: ACCOUNT, room, nick: Some("ada"), id: id_of(&join) };
    let said = MucUser { codes: &[110], ..MucUser::default() };
    fork.presence_from_room(from, Presence::Available, said, b"<presence from='x@y/ada'/>", 1);
}

#[test]
fn the_occupants_of_a_room_have_a_bound_and_clients_hear_of_all() {
    let mut fork = Accounts::new(random);
    fork.limit(Limits { room: 1 << 20, ..Limits::default() });
    in_room(&mut fork, ROOM);
    for n in 0..20_000 {
        assert_eq!(occupant(&mut fork, ROOM, n).len(), 1);
    }
    let bytes = fork.totals().2;
    assert!((1 << 19..=(1 << 20) + (1 << 17)).contains(&bytes), "{bytes} bytes");
    assert_eq!(fork.take_notices(), [Full::Room(ROOM.into())]);
    // Others are not affected, and what was kept is let go of.
    in_room(&mut fork, "other@c.example");
    occupant(&mut fork, "other@c.example", 0);
    fork.account_deleted(ACCOUNT);
    assert_eq!(fork.totals(), (0, 0, 0));
}

#[test]
fn an_account_and_the_server_have_bounds() {
    for (limits, full) in [
        (Limits { account: 1 << 20, ..Limits::default() }, Full::Account(ACCOUNT.into())),
        (Limits { server: 1 << 20, ..Limits::default() }, Full::Server),
    ] {
        let mut fork = Accounts::new(random);
        fork.limit(limits);
        for room in 0..50 {
            let room = format!("r{room}@c.example");
            in_room(&mut fork, &room);
            for n in 0..200 {
                assert_eq!(occupant(&mut fork, &room, n).len(), 1);
            }
        }
        let bytes = fork.totals().2;
        assert!((1 << 19..5 << 19).contains(&bytes), "{bytes} bytes");
        assert_eq!(fork.take_notices(), [full]);
    }
}

#[test]
fn what_is_said_has_a_bound_and_is_stamped_by_the_wall_clock() {
    let mut fork = Accounts::new(random);
    fork.limit(Limits { account: 1 << 20, ..Limits::default() });
    fork.set_wall_clock(1_000_000, 10);
    for room in 0..50 {
        let room = format!("r{room}@c.example");
        in_room(&mut fork, &room);
        for n in 0..100 {
            let id = format!("{n}");
            let from = FromRoom { account: ACCOUNT, room: &room, nick: Some("bob"), id: Some(&id) };
            let body = "x".repeat(10_000);
            let stanza =
                format!("<message from='{room}/bob' id='{n}' type='groupchat'><body>{body}</body></message>");
            let mut copies = 0;
            let all = fork.groupchat(from, &chat::read(stanza.as_bytes(), &room), 10, |_| copies += 1);
            assert!(all.is_some());
            assert_eq!(copies, 1);
        }
    }
    // 256 KiB of each room are kept for comparison with what the next account gets.
    let bytes = fork.totals().2;
    assert!(bytes < 50 * (256 << 10) + (3 << 20), "{bytes} bytes");
    let join = enjamb_muc_fork::input::Join::default();
    let from =
        FromClient { account: ACCOUNT, resource: "desk", room: "r0@c.example", nick: Some("ada"), id: None };
    let served = fork.presence_from_client(from, Presence::Available, Some(join), b"<presence/>", 20);
    let delays: Vec<u64> = served
        .unwrap_or_default()
        .iter()
        .filter_map(|d| match d {
            Decision::Serve { edit, .. } => edit.delay.as_ref().map(|(_, at)| *at),
            _ => None,
        })
        .collect();
    assert!(!delays.is_empty() && delays.iter().all(|at| *at == 1_000_000), "{delays:?}");
}
