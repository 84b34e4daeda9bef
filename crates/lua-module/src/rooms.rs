//! What of rooms outlives the process: a file of [`lines`], one for each change.
//!
//! What a crash of the machine takes costs a client nothing but presences that it knows already. A line that is not
//! understood is passed over, and counted. Knows nothing of Lua or of accounts.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_journal::lines::{self, Lines, Read};
use enjamb_muc_fork::view::Likeness;
use enjamb_muc_fork::{Accounts, Change, Mark};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;

/// Messages that are known again of a room.
const SAID: usize = 128;

/// What was kept of a room.
#[derive(Clone, Default)]
pub struct RoomRecord {
    /// By nickname, the likeness of the presence.
    pub occupants: HashMap<String, Likeness>,
    /// The last messages.
    pub said: VecDeque<Mark>,
}

pub struct Log(Lines);

fn line(change: &Change, out: &mut String) {
    match change {
        Change::Occupant { room, nick, likeness } => {
            let jid = likeness.jid.map_or(String::new(), |jid| format!(":{jid:x}"));
            lines::write(out, ["+", room, nick, &format!("{:x}{jid}", likeness.rest)]);
        }
        Change::Gone { room, nick } => lines::write(out, ["-", room, nick, ""]),
        Change::Message { room, mark } => {
            let archived = mark.archived.map_or(String::new(), |archived| format!(":{archived:x}"));
            lines::write(out, ["s", room, &format!("{:x}{archived}", mark.words), &format!("{:x}", mark.at)]);
        }
        Change::Forgotten { room } => lines::write(out, ["f", room, "", ""]),
    }
}

/// Changes, as lines.
pub fn written(changes: &[Change]) -> String {
    let mut out = String::new();
    changes.iter().for_each(|change| line(change, &mut out));
    out
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// One number, or two with a colon between them.
fn pair(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once(':') {
        Some((first, second)) => Some((hex(first)?, Some(hex(second)?))),
        None => Some((hex(text)?, None)),
    }
}

/// What a line says is done; `None` if it makes no sense.
fn read_line(rooms: &mut HashMap<String, RoomRecord>, fields: Option<&[String; 4]>) -> Option<()> {
    let [kind, room, what, more] = fields?;
    match &**kind {
        "+" => {
            let (rest, jid) = pair(more)?;
            let likeness = Likeness { rest, jid };
            rooms.entry(room.clone()).or_default().occupants.insert(what.clone(), likeness);
        }
        "-" => {
            if let Some(kept) = rooms.get_mut(room) {
                kept.occupants.remove(what);
            }
        }
        "s" => {
            let ((words, archived), at) = (pair(what)?, hex(more)?);
            let said = &mut rooms.entry(room.clone()).or_default().said;
            if said.len() == SAID {
                said.pop_front();
            }
            said.push_back(Mark { words, archived, at });
        }
        "f" => {
            rooms.remove(room);
        }
        _ => return None,
    }
    Some(())
}

/// The rooms, and how many lines made no sense.
fn read(text: &str) -> (HashMap<String, RoomRecord>, usize) {
    let mut rooms = HashMap::new();
    let senseless =
        lines::fields(text).filter(|fields| read_line(&mut rooms, fields.as_ref()).is_none()).count();
    (rooms, senseless)
}

fn kept_lines(rooms: &HashMap<String, RoomRecord>) -> String {
    let mut out = String::new();
    for (room, kept) in rooms {
        changes(room, kept, |change| line(&change, &mut out));
    }
    out
}

/// All that is known of rooms, as lines: of those that accounts are in, and what was `kept` of those that are not joined again yet.
pub fn all(fork: &Accounts, kept: &HashMap<String, RoomRecord>) -> String {
    let mut out = written(&fork.snapshot());
    for (room, kept) in kept.iter().filter(|(room, _)| !fork.has_room(room)) {
        changes(room, kept, |change| line(&change, &mut out));
    }
    out
}

fn changes(room: &str, kept: &RoomRecord, mut each: impl FnMut(Change)) {
    for (nick, &likeness) in &kept.occupants {
        each(Change::Occupant { room: room.into(), nick: (**nick).into(), likeness });
    }
    for &mark in &kept.said {
        each(Change::Message { room: room.into(), mark });
    }
}

impl Log {
    /// `ahead` are the lines that were to be written last: the file may lack them, or the end of them.
    pub fn open(path: PathBuf, ahead: &str) -> io::Result<(Log, HashMap<String, RoomRecord>)> {
        let mut rooms = HashMap::new();
        let lines = Lines::open(path, "Who is in which room", |text| {
            let senseless;
            (rooms, senseless) =
                if text.ends_with(ahead) { read(text) } else { read(&[text, ahead].concat()) };
            Read { needed: kept_lines(&rooms), senseless }
        })?;
        Ok((Log(lines), rooms))
    }

    /// Appends lines; `all` gives everything, when the file is better written anew.
    pub fn write(&mut self, lines: &str, all: impl FnOnce() -> String) {
        self.0.append(lines, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_again() {
        let path = std::env::temp_dir().join(format!("enjamb-rooms-{}", std::process::id()));
        let (mut log, rooms) = Log::open(path.clone(), "").expect("made");
        assert!(rooms.is_empty());
        let said = Change::Message { room: "r@c".into(), mark: Mark { words: 7, archived: Some(8), at: 9 } };
        log.write(&written(std::slice::from_ref(&said)), String::new);
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, "s\tr@c\t7:8\t9\n");
        for (ahead, said) in [("", 1), ("s\tr@c\t7:8\t9\n", 1), ("s\tr@c\ta:b\tc\n", 2)] {
            assert_eq!(Log::open(path.clone(), ahead).expect("opened").1["r@c"].said.len(), said);
        }
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn reads_what_it_wrote_and_no_line_that_makes_no_sense() {
        let mark = Mark { words: 9, archived: Some(10), at: 11 };
        let room: Box<str> = "r@c".into();
        let nick: Box<str> = "a\tb%\n".into();
        let mut text = String::new();
        for change in [
            Change::Occupant {
                room: room.clone(),
                nick: nick.clone(),
                likeness: Likeness { rest: 7, jid: Some(70) },
            },
            Change::Occupant {
                room: room.clone(),
                nick: "gone".into(),
                likeness: Likeness { rest: 8, jid: None },
            },
            Change::Gone { room: room.clone(), nick: "gone".into() },
            Change::Message { room: room.clone(), mark },
            Change::Message { room: room.clone(), mark: Mark { archived: None, ..mark } },
            Change::Occupant { room: "x@c".into(), nick: "n".into(), likeness: Likeness::default() },
            Change::Forgotten { room: "x@c".into() },
        ] {
            line(&change, &mut text);
        }
        for cut in 0..text.len() {
            if let Some(torn) = text.get(..cut) {
                read(torn);
            }
        }
        text += "+\tr@c\tno number\tx\n+\tr@c\ttoo few\n";
        let (rooms, senseless) = read(&text);
        assert_eq!((rooms.len(), senseless), (1, 2));
        let kept = &rooms["r@c"];
        assert_eq!(kept.occupants, HashMap::from([(nick.to_string(), Likeness { rest: 7, jid: Some(70) })]));
        assert_eq!(kept.said, [mark, Mark { archived: None, ..mark }]);
        assert_eq!(read(&kept_lines(&rooms)).0["r@c"].occupants, kept.occupants);
    }
}
