//! Segments as a broken disk, or an earlier life, may leave them: opening them is refused or gives a journal that is
//! usable, and that gives the same when it is opened again.

use crate::disk::{DIR, Disk};
use crate::read;
use arbitrary::Arbitrary;
use enjamb_journal::{Config, Counters, Error, Journal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    segments: Vec<Segment<'a>>,
    operations: Vec<Operation<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Segment<'a> {
    version: Option<u8>,
    records: Vec<Record<'a>>,
    /// Where a byte is replaced by another one, when all is written.
    flips: Vec<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
enum Record<'a> {
    Meta(u8, &'a [u8]),
    Stanza(u8, Number, &'a [u8]),
    State(u8, Number, u64),
    End(u8),
    Any { version: u8, kind: u8, session: u64, arg: u64, payload: &'a [u8] },
    Garbage(&'a [u8]),
}

/// The number of a stanza. Gaps are made of what is lost, so their width has to be far from all bounds.
#[derive(Arbitrary, Debug)]
enum Number {
    Small(u8),
    Large(u8),
    Largest(u8),
}

impl Number {
    fn get(&self) -> u64 {
        match self {
            Number::Small(n) => u64::from(*n),
            Number::Large(n) => (1 << 40) + u64::from(*n),
            Number::Largest(n) => u64::MAX - u64::from(*n),
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Meta(u8, &'a [u8]),
    Push(u8, &'a [u8]),
    Ack(u8, u8),
    Inbound(u8, u64),
    End(u8),
    Commit,
    Full(bool),
}

/// As `docs/journal.md` has it.
fn record(out: &mut Vec<u8>, segment: u32, version: u8, kind: u8, session: u64, arg: u64, payload: &[u8]) {
    let mut rest = (payload.len() as u32).to_le_bytes().to_vec();
    rest.extend([version, kind, 0, 0]);
    rest.extend(session.to_le_bytes());
    rest.extend(arg.to_le_bytes());
    rest.extend(payload);
    let mut hasher = crc32fast::Hasher::new_with_initial(segment);
    hasher.update(&rest);
    out.extend(hasher.finalize().to_le_bytes());
    out.extend(rest);
}

impl Segment<'_> {
    /// A session's number is never used again: of those that have `ended` nothing more comes.
    fn bytes(&self, id: u32, ended: &mut BTreeSet<u8>) -> Vec<u8> {
        let mut out = b"EnjJrnl".to_vec();
        out.push(self.version.unwrap_or(1));
        out.extend(id.to_le_bytes());
        out.extend(crc32fast::hash(&out).to_le_bytes());
        for one in &self.records {
            match one {
                Record::Meta(session, ..)
                | Record::Stanza(session, ..)
                | Record::State(session, ..)
                | Record::End(session)
                    if ended.contains(session) => {}
                Record::Meta(session, meta) => record(&mut out, id, 1, 1, u64::from(*session), 0, meta),
                Record::Stanza(session, number, stanza) => {
                    record(&mut out, id, 1, 2, u64::from(*session), number.get(), stanza);
                }
                Record::State(session, number, inbound) => {
                    record(&mut out, id, 1, 3, u64::from(*session), number.get(), &inbound.to_le_bytes());
                }
                Record::End(session) => {
                    ended.insert(*session);
                    record(&mut out, id, 1, 4, u64::from(*session), 1 << 32 | u64::from(id), &[]);
                }
                // Those have to make sense.
                Record::Any { version: 1, kind: 1..=5, .. } => {}
                Record::Any { version, kind, session, arg, payload } => {
                    record(&mut out, id, *version, *kind, *session, *arg, payload);
                }
                Record::Garbage(bytes) => out.extend(*bytes),
            }
        }
        for (at, byte) in &self.flips {
            let at = usize::from(*at) % out.len();
            out[at] = *byte;
        }
        out
    }
}

/// Segments change every few records, and garbage is collected all the time.
fn config() -> Config {
    Config {
        segment_bytes: 512,
        buffer_bytes: 128,
        waiting_bytes: 2048,
        garbage_floor: 0,
        collect_step: 64,
        ..Config::default()
    }
}

type Found = (Counters, Option<Vec<u8>>, Vec<(u64, Option<Vec<u8>>)>);

fn look(journal: &mut Journal) -> BTreeMap<u64, Found> {
    let sessions: Vec<u64> = journal.sessions().collect();
    let mut all = BTreeMap::new();
    for session in sessions {
        let Some(counters) = journal.counters(session) else { panic!("it is listed") };
        let mut stanzas = Vec::new();
        let replayed = journal.replay(session, 0, |number, stanza| {
            stanzas.push((number, stanza.map(<[u8]>::to_vec)));
            true
        });
        assert!(replayed.is_ok());
        assert_eq!(stanzas.len(), counters.queued);
        for (n, (number, _)) in stanzas.iter().enumerate() {
            assert_eq!(*number, counters.acked + 1 + n as u64);
        }
        let lengths: Vec<_> = journal.lengths(session).map(Iterator::collect).unwrap_or_default();
        let expected: Vec<_> = stanzas.iter().map(|(_, s)| s.as_ref().map(|s| s.len() as u32)).collect();
        assert_eq!(lengths, expected);
        all.insert(session, (counters, journal.meta(session).ok(), stanzas));
    }
    all
}

fn operate(journal: &mut Journal, disk: &Disk, ended: &mut BTreeSet<u8>, operations: &[Operation]) {
    for operation in operations {
        let done = match operation {
            Operation::Meta(session, _) if ended.contains(session) => Ok(()),
            Operation::Meta(session, meta) => journal.set_meta(u64::from(*session), meta),
            Operation::Push(session, stanza) => {
                let session = u64::from(*session);
                let last = journal.counters(session).map_or(0, |c| c.acked.saturating_add(c.queued as u64));
                journal.push(session, last.saturating_add(1), stanza)
            }
            Operation::Ack(session, n) => {
                let session = u64::from(*session);
                let acked = journal.counters(session).map_or(0, |c| c.acked);
                journal.ack(session, acked.saturating_add(u64::from(*n)))
            }
            Operation::Inbound(session, count) => journal.set_inbound(u64::from(*session), *count),
            Operation::End(session) => {
                let done = journal.end(u64::from(*session));
                if done.is_ok() {
                    ended.insert(*session);
                }
                done
            }
            Operation::Commit => journal.commit().map(drop),
            Operation::Full(full) => {
                disk.set_full(*full);
                Ok(())
            }
        };
        let bounds = matches!(
            done,
            Ok(())
                | Err(Error::NoSuchSession { .. }
                    | Error::OutOfOrder { .. }
                    | Error::Full { .. }
                    | Error::Io { .. })
        );
        assert!(bounds, "{done:?}");
    }
    disk.set_full(false);
}

fn open(disk: Arc<Disk>) -> Option<(Journal, bool)> {
    match Journal::open_in(disk, Path::new(DIR), config()) {
        Ok((journal, recovery)) => Some((journal, recovery.is_whole())),
        Err(Error::UnknownVersion { .. } | Error::Corrupt { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some(input) = read::<Input>(data) else { return };
    let disk = Arc::new(Disk::default());
    let mut ended = BTreeSet::new();
    for (n, segment) in input.segments.iter().take(4).enumerate() {
        let id = n as u32 + 1;
        disk.put(&format!("{id:08x}.seg"), segment.bytes(id, &mut ended));
    }
    let Some((mut journal, _)) = open(Arc::clone(&disk) as _) else { return };
    let before = look(&mut journal);
    assert!(journal.commit().is_ok());
    let Some((mut again, _)) = open(disk.killed()) else { panic!("it was opened before") };
    assert_eq!(look(&mut again), before);
    drop(again);
    operate(&mut journal, &disk, &mut ended, &input.operations);
    assert!(journal.commit().is_ok());
    let after = look(&mut journal);
    let Some((mut again, _)) = open(disk.killed()) else { panic!("it was written by us") };
    assert_eq!(look(&mut again), after);
}
