//! A groupchat message to an account with several clients in the room, and the room's presence of somebody else.

#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{FromClient, FromRoom, Join, MucUser, Presence};
use enjamb_muc_fork::{Accounts, Config, chat};
use std::hint::black_box;

const ACCOUNT: &str = "juliet@capulet.example";
const ROOM: &str = "orchard@rooms.example";
const NOW: u64 = 1_800_000_000;

fn random() -> u128 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn from_room<'a>(nick: &'a str, id: Option<&'a str>) -> FromRoom<'a> {
    FromRoom { account: ACCOUNT, room: ROOM, nick: (!nick.is_empty()).then_some(nick), id }
}

/// An account in a room, with so many clients and all of 100 occupants.
fn joined(clients: usize) -> Accounts {
    let mut fork = Accounts::new(random);
    fork.configure("capulet.example", Config::default());
    let resources: Vec<String> = (0..clients).map(|n| format!("device-{n}")).collect();
    let mut id = String::new();
    for resource in &resources {
        let from = FromClient { account: ACCOUNT, resource, room: ROOM, nick: Some("juliet"), id: Some("j") };
        let decisions =
            fork.presence_from_client(from, Presence::Available, Some(Join::default()), b"<presence/>", NOW);
        for decision in decisions.unwrap_or_default() {
            if let Decision::Send { stanza } = decision {
                let text = String::from_utf8_lossy(&stanza).into_owned();
                let found = text.split_once(" id='").and_then(|(_, rest)| rest.split_once('\''));
                id = found.map(|(id, _)| id.to_owned()).unwrap_or_default();
            } else if let Decision::ToRoom { id: enjamb_muc_fork::Id::Set(new), .. } = decision {
                id = new;
            }
        }
    }
    for n in 0..100 {
        let nick = format!("guest-{n}");
        let presence = format!(
            "<presence from='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc#user'/></presence>"
        );
        fork.presence_from_room(
            from_room(&nick, None),
            Presence::Available,
            MucUser::default(),
            presence.as_bytes(),
            NOW,
        );
    }
    let said = MucUser { codes: &[110], ..MucUser::default() };
    let presence = format!("<presence from='{ROOM}/juliet'/>");
    fork.presence_from_room(
        from_room("juliet", Some(&id)),
        Presence::Available,
        said,
        presence.as_bytes(),
        NOW,
    );
    let subject = chat::read(b"<message><subject/></message>", ROOM);
    fork.groupchat(from_room("", None), &subject, NOW, |_| {});
    let there = fork.clients(ACCOUNT, ROOM).map_or(0, |(_, clients)| clients.len());
    assert_eq!(there, clients, "all are in");
    fork
}

fn groupchat(c: &mut Criterion) {
    let mut group = c.benchmark_group("muc-fork");
    for clients in [1, 3, 10] {
        group.bench_function(format!("groupchat to {clients} clients"), |b| {
            let mut fork = joined(clients);
            let mut n: u64 = 0;
            b.iter(|| {
                n += 1;
                let mut copies = 0;
                let from = from_room("guest-1", Some("1"));
                let body = "x".repeat(300);
                let message = format!(
                    "<message from='{ROOM}/guest-1' type='groupchat' id='{n}'><body>{body}</body></message>"
                );
                let to = |_: &str| copies += 1;
                black_box(fork.groupchat(from, &chat::read(message.as_bytes(), ROOM), NOW, to));
                assert_eq!(copies, clients);
                black_box(fork.take_changes());
            });
        });
        group.bench_function(format!("presence to {clients} clients"), |b| {
            let mut fork = joined(clients);
            let mut n: u64 = 0;
            b.iter(|| {
                n += 1;
                let presence =
                    format!("<presence from='{ROOM}/guest-1'><status>{}</status></presence>", n % 7);
                let from = from_room("guest-1", None);
                black_box(fork.presence_from_room(
                    from,
                    Presence::Available,
                    MucUser::default(),
                    presence.as_bytes(),
                    NOW,
                ));
                black_box(fork.take_changes());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, groupchat);
criterion_main!(benches);
