//! Clients that ask for another nickname than the account's (XEP-0045 §7.2.2, §7.6).

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::{Accounts, chat, input::FromRoom};
use support::{random, sent, sent_id};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
const USER: &str = "xmlns='http://jabber.org/protocol/muc#user'";

fn client(fork: &mut Accounts, resource: &str, stanza: &str) -> Vec<Decision> {
    fork.client_sends(ACCOUNT, resource, stanza.as_bytes(), false, 10).unwrap()
}

fn joins(fork: &mut Accounts, resource: &str, nick: &str) -> Vec<Decision> {
    support::joins(fork, ACCOUNT, resource, &format!("{ROOM}/{nick}"))
}

fn room(fork: &mut Accounts, nick: &str, attributes: &str, inside: &str) -> Vec<Decision> {
    let presence = format!("<presence from='{ROOM}/{nick}' to='{ACCOUNT}'{attributes}>{inside}</presence>");
    fork.room_sends(presence.as_bytes(), true, 10).unwrap()
}

fn says(fork: &mut Accounts, inside: &str) {
    let message = format!("<message from='{ROOM}/bob' type='groupchat'>{inside}</message>");
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("bob"), id: None };
    fork.groupchat_from_room(from, &chat::read(message.as_bytes(), ROOM), 10, |_| {}).unwrap();
}

/// The phone is in a room as ada; bob is there, has said hello, and there is a subject.
fn in_room() -> Accounts {
    let mut fork = Accounts::new(random);
    let id = sent_id(&joins(&mut fork, "phone", "ada"));
    room(&mut fork, "bob", "", "");
    room(&mut fork, "ada", &format!(" id='{id}'"), &format!("<x {USER}><status code='110'/></x>"));
    says(&mut fork, "<body>hello</body>");
    says(&mut fork, "<subject>talk</subject>");
    fork
}

/// What a client is served: of each stanza what it is told by, and its codes.
fn served(all: &[Decision], to: &str) -> Vec<String> {
    let one = |decision: &Decision| match decision {
        Decision::Serve { resource, stanza, edit, .. } if **resource == *to => {
            let text = String::from_utf8_lossy(stanza).into_owned();
            let kind = ["<body>", "<subject>"].into_iter().find(|part| text.contains(part));
            let from = text.split(" from='").nth(1)?.split('\'').next()?.rsplit('/').next()?.to_owned();
            Some(kind.map_or_else(|| format!("{from} {:?}", edit.with), Into::into))
        }
        _ => None,
    };
    all.iter().filter_map(one).collect()
}

fn to_room(all: &[Decision]) -> Vec<&str> {
    let to = all.iter().filter_map(|decision| match decision {
        Decision::ToRoom { to, .. } => Some(to.as_str()),
        _ => None,
    });
    to.filter_map(|to| to.rsplit('/').next()).collect()
}

const ALL: [&str; 4] = ["bob []", "ada [110, 210]", "<body>", "<subject>"];

#[test]
fn a_client_that_is_in_and_joins_under_another_gets_everything() {
    let mut fork = in_room();
    let all = joins(&mut fork, "phone", "countess");
    assert_eq!(served(&all, "phone"), ALL);
    assert_eq!(to_room(&all), ["countess"]);
    // What is told comes first: a room of this server answers at once.
    assert!(matches!(all.last(), Some(Decision::ToRoom { .. })), "{all:?}");
    assert!(sent(&all).is_empty(), "{all:?}");
    room(
        &mut fork,
        "ada",
        " type='unavailable'",
        &format!("<x {USER}><item nick='countess'/><status code='110'/><status code='303'/></x>"),
    );
    room(&mut fork, "countess", " id='j'", &format!("<x {USER}><status code='110'/></x>"));
    assert_eq!(served(&joins(&mut fork, "desk", "countess"), "desk")[1], "countess [110]");
}

#[test]
fn a_client_that_logs_in_anew_and_joins_under_another_gets_everything() {
    let mut fork = in_room();
    fork.replaced(ACCOUNT, "phone", 10);
    let mut all = joins(&mut fork, "phone", "countess");
    fork.withhold(&mut all);
    assert_eq!(served(&all, "phone"), ALL);
    assert_eq!(to_room(&all), ["countess"]);
}

#[test]
fn who_joins_under_that_of_another_is_refused_by_the_room_or_told_which_it_has() {
    let mut fork = in_room();
    let all = joins(&mut fork, "phone", "bob");
    assert_eq!((served(&all, "phone").len(), to_room(&all)), (0, vec!["bob"]));
    fork.replaced(ACCOUNT, "phone", 10);
    let mut all = joins(&mut fork, "phone", "bob");
    fork.withhold(&mut all);
    assert_eq!(served(&all, "phone"), ALL);
    assert!(to_room(&all).is_empty(), "{all:?}");
}

#[test]
fn who_was_given_another_reaches_the_occupant_that_has_the_one_that_it_asked_for() {
    let mut fork = in_room();
    joins(&mut fork, "desk", "lap");
    let all = [
        "<message to='room@c.example/lap' type='chat'><body>psst</body></message>",
        "<iq to='room@c.example/lap' type='get' id='q'><query xmlns='jabber:iq:version'/></iq>",
        "<iq to='room@c.example/lap' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>",
    ];
    let probe = "<presence to='room@c.example/lap' type='probe' id='w'/>";
    let change = "<presence to='room@c.example/lap' id='n'><show>away</show></presence>";
    for stanza in all {
        assert_eq!(to_room(&client(&mut fork, "desk", stanza)), ["ada"], "nobody has it: {stanza}");
    }
    assert_eq!(served(&client(&mut fork, "desk", probe), "desk"), ["ada [110, 210]"]);
    assert_eq!(to_room(&client(&mut fork, "desk", change)), ["ada"]);
    room(
        &mut fork,
        "bob",
        " type='unavailable'",
        &format!("<x {USER}><item nick='lap'/><status code='303'/></x>"),
    );
    room(&mut fork, "lap", "", "");
    for stanza in all {
        assert_eq!(to_room(&client(&mut fork, "desk", stanza)), ["lap"], "{stanza}");
    }
    assert_eq!(served(&client(&mut fork, "desk", probe), "desk"), ["lap []"]);
    assert_eq!(to_room(&client(&mut fork, "desk", change)), ["lap"], "the room refuses it");
    room(&mut fork, "lap", " type='unavailable'", "");
    assert_eq!(to_room(&client(&mut fork, "desk", all[0])), ["ada"], "nobody has it any more");
}
