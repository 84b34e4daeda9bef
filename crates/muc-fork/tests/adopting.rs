//! An account whose room outlived the restart: its clients are told what changed, and the room nothing.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, Join, Presence};
use enjamb_muc_fork::view::likeness;
use enjamb_muc_fork::{Accounts, Remembered, Restored, RestoredClient, Waits};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";

fn random() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn occupant(nick: &str, show: &str) -> String {
    format!(
        "<presence from='{ROOM}/{nick}' id='{show}'><show>{show}</show><x xmlns='http://jabber.org/protocol/muc#user'/></presence>"
    )
}

fn own(nick: &str) -> String {
    format!(
        "<presence from='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>"
    )
}

fn said(body: &str) -> String {
    format!(
        "<message from='{ROOM}/bob' type='groupchat' id='{body}'><body>{body}</body>\
         <delay xmlns='urn:xmpp:delay' from='{ROOM}' stamp='2026-11-26T00:00:00Z'/></message>"
    )
}

fn subject() -> String {
    format!("<message from='{ROOM}' type='groupchat'><subject>the subject</subject></message>")
}

fn phone(waits: Option<Waits>) -> RestoredClient {
    RestoredClient { resource: "phone".into(), asked: "ada".into(), presence: b"<presence/>".to_vec(), waits }
}

/// Its clients know bob, who is away, and carol.
fn kept(clients: Vec<RestoredClient>) -> Restored {
    let known = [("bob", "away"), ("carol", "chat")];
    Restored {
        room: ROOM.into(),
        nick: "ada".into(),
        clients,
        occupants: known.map(|(n, show)| (n.to_owned(), likeness(occupant(n, show).as_bytes()))).into(),
        ..Restored::default()
    }
}

/// What is told of whom, and everything else.
fn told(decisions: &[Decision]) -> (Vec<String>, Vec<&Decision>) {
    let mut stanzas = Vec::new();
    let mut others = Vec::new();
    for decision in decisions {
        match decision {
            Decision::Serve { resource, stanza, .. } => {
                stanzas.push(format!("{resource}: {}", String::from_utf8_lossy(stanza)));
            }
            Decision::Persist { .. } | Decision::PersistSoon { .. } => {}
            other => others.push(other),
        }
    }
    (stanzas, others)
}

fn adopted(kept: Restored, nick: &str, there: &[String], shown: &str) -> (Accounts, Vec<Decision>) {
    adopted_with(kept, nick, there, shown, false)
}

fn adopted_with(
    kept: Restored,
    nick: &str,
    there: &[String],
    shown: &str,
    all_back: bool,
) -> (Accounts, Vec<Decision>) {
    let mut fork = Accounts::new(random);
    let names = ["bob", "carol", "dora"];
    let occupants =
        there.iter().map(|p| (*names.iter().find(|n| p.contains(**n)).unwrap(), p.as_bytes())).collect();
    let (own, m1, m2, subject) = (own(nick), said("m1"), said("m2"), subject());
    let remembered = Remembered {
        nick,
        own: own.as_bytes(),
        shown: shown.as_bytes(),
        all_back,
        occupants,
        history: vec![m1.as_bytes(), m2.as_bytes()],
        subject: subject.as_bytes(),
    };
    // What was said is known again by how it was kept.
    let mut first = Accounts::new(random);
    let before = Restored { occupants: Vec::new(), clients: Vec::new(), ..kept.clone() };
    first.adopt(ACCOUNT, before, &remembered, true, 1);
    let marks = first.take_changes().into_iter().filter_map(|change| match change {
        enjamb_muc_fork::Change::Message { mark, .. } => Some(mark),
        _ => None,
    });
    let kept = Restored { said: marks.collect(), ..kept };
    let decisions = fork.adopt(ACCOUNT, kept, &remembered, true, 2);
    (fork, decisions)
}

#[test]
fn nobody_is_told_what_is_as_it_was() {
    let there = [occupant("bob", "away"), occupant("carol", "chat")];
    let (mut fork, decisions) = adopted(kept(vec![phone(None)]), "ada", &there, "<presence/>");
    let (stanzas, others) = told(&decisions);
    assert_eq!(stanzas, Vec::<String>::new());
    assert!(others.is_empty(), "{others:?}");
    assert!(told(&fork.tick(100)).1.is_empty());
    // Who joins later is told all of it.
    let from =
        FromClient { account: ACCOUNT, resource: "desk", room: ROOM, nick: Some("ada"), id: Some("j") };
    let entered = fork
        .presence_from_client(from, Presence::Available, Some(Join::default()), b"<presence/>", 101)
        .unwrap();
    let (stanzas, others) = told(&entered);
    assert!(others.is_empty(), "{others:?}");
    for (stanza, expected) in stanzas.iter().zip(["bob", "carol", "code='110'", "m1", "m2", "the subject"]) {
        assert!(stanza.starts_with("desk: ") && stanza.contains(expected), "{stanza} is not of {expected}");
    }
    assert_eq!(stanzas.len(), 6);
}

#[test]
fn what_changed_is_told() {
    let there = [occupant("bob", "dnd"), occupant("dora", "chat")];
    let (_, decisions) =
        adopted(kept(vec![phone(None)]), "ada", &there, "<presence><show>xa</show></presence>");
    let (stanzas, others) = told(&decisions);
    let tells = |what: &str, of: &str| stanzas.iter().any(|s| s.contains(what) && s.contains(of));
    assert!(tells("dnd", "bob") && tells("chat", "dora") && tells("unavailable", "carol"), "{stanzas:?}");
    assert_eq!(stanzas.len(), 3);
    // The room has another presence of the account than that of the client that is there.
    assert!(matches!(others[..], [Decision::Send { .. }]), "{others:?}");
}

#[test]
fn what_a_client_said_last_is_what_the_room_has_of_it() {
    let there = [occupant("bob", "away"), occupant("carol", "chat")];
    let shown = "<presence><show>dnd</show></presence>";
    let (_, decisions) = adopted_with(kept(vec![phone(None)]), "ada", &there, shown, true);
    let (stanzas, others) = told(&decisions);
    assert_eq!(stanzas, Vec::<String>::new());
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn it_goes_by_the_nickname_that_the_room_has() {
    let there = [occupant("bob", "away"), occupant("carol", "chat")];
    let (fork, decisions) = adopted(kept(vec![phone(None)]), "lovelace", &there, "<presence/>");
    assert_eq!(told(&decisions).0, Vec::<String>::new());
    assert_eq!(fork.clients(ACCOUNT, ROOM), Some(("lovelace".into(), vec!["phone".into()])));
}

#[test]
fn a_client_that_waited_is_let_in() {
    let waits =
        Waits::ToBeIn { id: Some("j".into()), request: Default::default(), password: None, was_in: false };
    let there = [occupant("bob", "away"), occupant("carol", "chat")];
    let (_, decisions) = adopted(kept(vec![phone(Some(waits))]), "ada", &there, "<presence/>");
    let (stanzas, _) = told(&decisions);
    let expected = ["bob", "carol", "code='110'", "m1", "m2", "the subject"];
    assert!(stanzas.iter().zip(expected).all(|(s, e)| s.contains(e)), "{stanzas:?}");
    assert_eq!(stanzas.len(), expected.len());
}

#[test]
fn an_account_that_was_leaving_leaves() {
    let kept = Restored { leaving: true, ..kept(vec![]) };
    let (_, decisions) = adopted(kept, "ada", &[], "<presence/>");
    assert!(told(&decisions).1.iter().any(|d| matches!(d, Decision::Send { .. })));
}
