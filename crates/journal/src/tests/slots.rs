//! Slots beside a naive model, with the collector at work and a process that dies anywhere.

use super::*;
use crate::Error;
use crate::record::SLOTS;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Set(u64, usize),
    /// A stanza that is acknowledged at once: garbage.
    Pass(usize),
    Meta,
    Commit,
    DieAfter(usize),
    Die,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..12u64, 0..150usize).prop_map(|(slot, len)| Op::Set(slot, len)),
        6 => (0..200usize).prop_map(Op::Pass),
        1 => Just(Op::Meta),
        4 => Just(Op::Commit),
        1 => (0..400usize).prop_map(Op::DieAfter),
        1 => Just(Op::Die),
    ]
}

fn slots(j: &mut Journal) -> Vec<Option<Vec<u8>>> {
    let mut found = Vec::new();
    j.slots(1, |slot, bytes| {
        assert_eq!(slot, found.len() as u64);
        found.push(bytes.map(<[u8]>::to_vec));
    })
    .unwrap();
    while found.pop_if(|last| last.is_none()).is_some() {}
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_holds_what_was_written_last(ops in proptest::collection::vec(op(), 1..200)) {
        let files = MemoryFiles::default();
        let (mut j, _) = open(&files, tiny());
        j.set_meta(1, b"m").unwrap();
        j.commit().unwrap();
        let (mut history, mut committed, mut made, mut number) = (vec![Vec::new()], 0, 0u8, 0);
        for op in ops.into_iter().chain([Op::Die]) {
            match op {
                Op::Set(slot, len) => {
                    made = made.wrapping_add(1);
                    let text = vec![made; len];
                    if j.set_slot(1, slot, &text).is_ok() {
                        let mut now: Vec<Option<Vec<u8>>> = history.last().unwrap().clone();
                        now.resize(now.len().max(slot as usize + 1), None);
                        now[slot as usize] = Some(text);
                        history.push(now);
                    }
                }
                Op::Pass(len) => {
                    if j.push(1, number + 1, &vec![b'x'; len]).is_ok() {
                        number += 1;
                        let _ = j.ack(1, number);
                    }
                }
                Op::Meta => drop(j.set_meta(1, b"m")),
                Op::Commit => {
                    if j.commit().is_ok() {
                        committed = history.len() - 1;
                    }
                }
                Op::DieAfter(bytes) => files.die_after(bytes as u64),
                Op::Die => {
                    drop(j);
                    files.crash();
                    let (next, r) = open(&files, tiny());
                    j = next;
                    assert!(r.is_whole(), "{r:?}");
                    let found = slots(&mut j);
                    let which = history.iter().rposition(|h| *h == found);
                    let which = which.filter(|which| *which >= committed);
                    assert!(which.is_some(), "{found:?} is nothing that was promised of {history:?}");
                    history.truncate(which.unwrap() + 1);
                    committed = which.unwrap();
                    let counters = j.counters(1).unwrap();
                    number = counters.acked + counters.queued as u64;
                }
            }
        }
        assert!(j.take_trouble().is_none_or(|e| matches!(e, Error::Io { .. } | Error::Full { .. })));
    }
}

#[test]
fn they_go_with_their_session_and_have_a_highest_number() {
    let files = MemoryFiles::default();
    let (mut j, _) = open(&files, Config::default());
    assert!(matches!(j.set_slot(1, 0, b"x"), Err(Error::NoSuchSession { session: 1 })));
    j.set_meta(1, b"m").unwrap();
    assert!(matches!(j.set_slot(1, SLOTS, b"x"), Err(Error::OutOfOrder { .. })));
    j.set_slot(1, 3, b"three").unwrap();
    assert_eq!(slots(&mut j), [None, None, None, Some(b"three".to_vec())]);
    let live = j.stats().live_bytes;
    j.set_slot(1, 3, b"drei!").unwrap();
    assert_eq!(j.stats().live_bytes, live, "the former one is dead");
    j.end(1).unwrap();
    assert_eq!(j.stats().live_bytes, 0);
    drop(j);
    let (j, _) = open(&files, Config::default());
    assert_eq!(j.sessions().count(), 0);
}
