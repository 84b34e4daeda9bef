//! Joins that a room refuses, and what is tried next: passwords and nicknames of the account's clients and of its bookmark.

mod support;

use enjamb_muc_fork::Accounts;
use enjamb_muc_fork::decision::{Decision, Id};
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};
use support::{id_of, random, sent};

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";

/// An account, and a room that is said what it answers.
struct Both {
    fork: Accounts,
    now: u64,
    /// The account's last join.
    join: String,
    joins: usize,
}

impl Both {
    fn new() -> Both {
        Both { fork: Accounts::new(random), now: 0, join: String::new(), joins: 0 }
    }

    fn note(&mut self, all: &[Decision]) {
        for stanza in sent(all).into_iter().filter(|s| s.contains("http://jabber.org/protocol/muc'")) {
            self.join = stanza;
            self.joins += 1;
        }
    }

    fn joins(&mut self, resource: &str, nick: &str, password: Option<&str>) -> Vec<Decision> {
        let from =
            FromClient { account: ACCOUNT, resource, room: ROOM, nick: Some(nick), id: Some(resource) };
        let join = Join { password, ..Join::default() };
        let all =
            self.fork.presence_from_client(from, Presence::Available, Some(join), b"<presence/>", self.now);
        let all = all.unwrap_or_default();
        self.note(&all);
        all
    }

    fn bookmark(&mut self, nick: &str, password: Option<&str>) {
        let all = self.fork.bookmark(ACCOUNT, ROOM, Some(true), Some(nick), password, true, self.now);
        self.note(&all);
    }

    /// What was asked for last: nickname and password.
    fn asked(&self) -> (String, Option<String>) {
        let between = |from: &str, to: &str| Some(self.join.split_once(from)?.1.split_once(to)?.0.to_owned());
        (between("to='room@c.example/", "'").unwrap_or_default(), between("<password>", "<"))
    }

    fn assert_asked(&self, joins: usize, nick: &str, password: Option<&str>) {
        assert_eq!((self.joins, self.asked()), (joins, (nick.to_owned(), password.map(str::to_owned))));
    }

    fn answers(&mut self, kind: Presence, said: MucUser) -> Vec<Decision> {
        let id = id_of(&self.join).map(str::to_owned);
        let (nick, _) = self.asked();
        let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some(&nick), id: id.as_deref() };
        let presence = format!("<presence from='{ROOM}/{nick}'/>");
        let all = self.fork.presence_from_room(from, kind, said, presence.as_bytes(), self.now);
        let all = all.unwrap_or_default();
        self.note(&all);
        all
    }

    fn refuses(&mut self, condition: &str) -> Vec<String> {
        told(&self.answers(Presence::Error, MucUser { condition: Some(condition), ..MucUser::default() }))
    }

    fn lets_in(&mut self) -> Vec<String> {
        told(&self.answers(Presence::Available, MucUser { codes: &[110], ..MucUser::default() }))
    }

    /// The room does not know the account any more.
    fn forgets(&mut self) {
        self.now += 10;
        let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: Some("other") };
        let said = MucUser { condition: Some("not-acceptable"), ..MucUser::default() };
        let all = self.fork.presence_from_room(from, Presence::Error, said, b"<presence/>", self.now);
        self.note(&all.unwrap_or_default());
    }

    /// The server starts anew, with no client.
    fn starts_anew(&mut self) {
        let kept = self.fork.memberships(ACCOUNT).remove(0);
        let Both { fork, joins, .. } = std::mem::replace(self, Both::new());
        drop(fork);
        self.joins = joins;
        let all = self.fork.restore(ACCOUNT, kept, true, self.now);
        self.note(&all);
    }
}

/// Which clients are answered, by the `id` of their join, or told without one.
fn told(all: &[Decision]) -> Vec<String> {
    all.iter()
        .filter_map(|decision| match decision {
            Decision::Forward { resource, edit } | Decision::Serve { resource, edit, .. } => {
                let answered = matches!(&edit.id, Id::Set(id) if **id == **resource);
                Some(format!("{resource}{}", if answered { "" } else { " told" }))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn the_latest_password_is_that_of_the_next_join() {
    let mut both = Both::new();
    both.joins("phone", "ada", Some("one"));
    both.lets_in();
    // A second client has another one.
    both.joins("desk", "ada", Some("two"));
    both.forgets();
    both.assert_asked(2, "ada", Some("two"));
    both.lets_in();
    // A client joins again.
    both.joins("phone", "ada", Some("three"));
    both.forgets();
    both.assert_asked(3, "ada", Some("three"));
    both.lets_in();
    // None takes none away.
    both.joins("phone", "ada", None);
    both.bookmark("ada", None);
    both.forgets();
    both.assert_asked(4, "ada", Some("three"));
    both.lets_in();
    // A bookmark has another one.
    both.bookmark("ada", Some("four"));
    both.forgets();
    both.assert_asked(5, "ada", Some("four"));
    both.starts_anew();
    both.assert_asked(6, "ada", Some("four"));
}

#[test]
fn a_room_that_had_no_password_has_one_now() {
    let mut both = Both::new();
    both.bookmark("ada", None);
    both.lets_in();
    both.bookmark("ada", Some("new"));
    assert_eq!(both.joins, 1);
    both.forgets();
    both.assert_asked(2, "ada", Some("new"));
}

#[test]
fn a_bookmark_that_is_read_after_a_start_is_not_the_latest() {
    let mut both = Both::new();
    both.bookmark("ada", Some("old"));
    both.lets_in();
    both.joins("phone", "ada", Some("new"));
    both.starts_anew();
    both.assert_asked(2, "ada", Some("new"));
    both.bookmark("ada", Some("old"));
    both.lets_in();
    both.forgets();
    both.assert_asked(3, "ada", Some("new"));
}

#[test]
fn whose_join_it_was_is_refused_and_the_other_is_tried() {
    // Nicknames.
    let mut both = Both::new();
    both.joins("phone", "ada", None);
    both.joins("desk", "countess", None);
    assert_eq!(both.joins, 1);
    assert_eq!(both.refuses("conflict"), ["phone"]);
    both.assert_asked(2, "countess", None);
    assert_eq!(both.lets_in(), ["desk"]);
    // Passwords.
    let mut both = Both::new();
    both.joins("phone", "ada", Some("wrong"));
    both.joins("desk", "ada", Some("right"));
    assert_eq!(both.refuses("not-authorized"), ["phone"]);
    both.assert_asked(2, "ada", Some("right"));
    assert_eq!(both.lets_in(), ["desk"]);
    both.forgets();
    both.assert_asked(3, "ada", Some("right"));
}

#[test]
fn a_client_knows_better_than_the_bookmark() {
    let mut both = Both::new();
    both.bookmark("ada", None);
    both.joins("phone", "ada", Some("right"));
    assert!(both.refuses("not-authorized").is_empty());
    both.assert_asked(2, "ada", Some("right"));
    assert_eq!(both.lets_in(), ["phone"]);
    let mut both = Both::new();
    both.bookmark("taken", Some("pw"));
    both.joins("phone", "ada", None);
    assert!(both.refuses("conflict").is_empty());
    both.assert_asked(2, "ada", Some("pw"));
    assert_eq!(both.lets_in(), ["phone"]);
}

#[test]
fn each_wish_is_tried_once() {
    let mut both = Both::new();
    both.joins("phone", "ada", Some("one"));
    both.joins("desk", "countess", Some("two"));
    both.joins("tab", "ada", Some("two"));
    both.joins("tv", "ada", Some("one"));
    assert_eq!(both.refuses("conflict"), ["phone", "tv"]);
    both.assert_asked(2, "countess", Some("two"));
    assert_eq!(both.refuses("conflict"), ["desk"]);
    both.assert_asked(3, "ada", Some("two"));
    assert_eq!(both.refuses("conflict"), ["tab"]);
    assert_eq!(both.joins, 3);
    assert!(both.fork.memberships(ACCOUNT).is_empty());
}

#[test]
fn who_is_in_stays_if_another_password_is_right() {
    for (resource, nick) in [("phone", "ada"), ("desk", "ada")] {
        let mut both = Both::new();
        both.joins("phone", "ada", Some("right"));
        both.lets_in();
        both.joins(resource, nick, Some("wrong"));
        both.forgets();
        both.assert_asked(2, "ada", Some("wrong"));
        assert!(both.refuses("not-authorized").is_empty());
        both.assert_asked(3, "ada", Some("right"));
        assert!(both.lets_in().is_empty());
        both.forgets();
        both.assert_asked(4, "ada", Some("right"));
        // None is right any more.
        assert!(both.refuses("not-authorized").contains(&"phone told".to_owned()));
        assert_eq!(both.joins, 4);
        assert!(both.fork.memberships(ACCOUNT).iter().all(|m| m.leaving));
    }
}

#[test]
fn who_waits_has_its_own_password_after_a_restart() {
    let mut both = Both::new();
    both.joins("phone", "ada", Some("wrong"));
    both.joins("desk", "ada", Some("right"));
    both.starts_anew();
    both.assert_asked(2, "ada", Some("right"));
    assert_eq!(both.refuses("not-authorized"), ["desk"]);
    both.assert_asked(3, "ada", Some("wrong"));
}

#[test]
fn a_room_may_refuse_without_saying_what() {
    let mut both = Both::new();
    both.joins("phone", "ada", None);
    both.joins("desk", "countess", None);
    let error = |both: &mut Both| {
        let from = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
        let said = MucUser { condition: Some("registration-required"), ..MucUser::default() };
        let now = both.now;
        let all = both.fork.presence_from_room(from, Presence::Error, said, b"<presence type='error'/>", now);
        assert_eq!(all, Some(vec![]));
        both.now += 1;
        let all = both.fork.tick(both.now);
        both.note(&all);
        told(&all)
    };
    assert_eq!(error(&mut both), ["phone"]);
    both.assert_asked(2, "countess", None);
    assert_eq!(error(&mut both), ["desk"]);
    // It is no answer if another one comes.
    let mut both = Both::new();
    both.joins("phone", "ada", None);
    let from = FromRoom { account: ACCOUNT, room: ROOM, nick: None, id: None };
    let said = MucUser { condition: Some("internal-server-error"), ..MucUser::default() };
    both.fork.presence_from_room(from, Presence::Error, said, b"<presence type='error'/>", 0);
    assert_eq!(both.lets_in(), ["phone"]);
}
