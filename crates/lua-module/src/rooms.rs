//! What of rooms outlives the process: a file to which each change is appended.
//!
//! One line per change. What a crash of the machine takes costs a client nothing but presences that it knows already;
//! nothing here waits for the disk. A line that is torn or not
//! understood is passed over. Knows nothing of Lua or of accounts.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_muc_fork::view::Likeness;
use enjamb_muc_fork::{Accounts, Change, Mark};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file shorter than this many bytes is left to grow.
const SMALL: u64 = 1 << 20;
/// It is written anew when it is this many times as long as it was when it was last written anew.
const GROWTH: u64 = 4;
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

pub struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    /// The last write failed.
    failed: bool,
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\t', "%09").replace('\n', "%0A")
}

pub(crate) fn unescape(text: &str) -> String {
    text.replace("%0A", "\n").replace("%09", "\t").replace("%25", "%")
}

fn line(change: &Change, out: &mut String) {
    use std::fmt::Write;
    // Writing to a string does not fail.
    let _ = match change {
        Change::Occupant { room, nick, likeness } => {
            let jid = likeness.jid.map_or(String::new(), |jid| format!(":{jid:x}"));
            writeln!(out, "+\t{}\t{}\t{:x}{jid}", escape(room), escape(nick), likeness.rest)
        }
        Change::Gone { room, nick } => writeln!(out, "-\t{}\t{}\t", escape(room), escape(nick)),
        Change::Message { room, mark } => {
            let archived = mark.archived.map_or(String::new(), |archived| format!(":{archived:x}"));
            writeln!(out, "s\t{}\t{:x}{archived}\t{:x}", escape(room), mark.words, mark.at)
        }
        Change::Forgotten { room } => writeln!(out, "f\t{}\t\t", escape(room)),
    };
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

fn read(text: &str) -> HashMap<String, RoomRecord> {
    let mut rooms: HashMap<String, RoomRecord> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, room, what, more] = fields[..] else { continue };
        let room = unescape(room);
        match kind {
            "+" => {
                let Some((rest, jid)) = pair(more) else { continue };
                let likeness = Likeness { rest, jid };
                rooms.entry(room).or_default().occupants.insert(unescape(what), likeness);
            }
            "-" => {
                if let Some(kept) = rooms.get_mut(&room) {
                    kept.occupants.remove(&unescape(what));
                }
            }
            "s" => {
                let (Some((words, archived)), Some(at)) = (pair(what), hex(more)) else { continue };
                let said = &mut rooms.entry(room).or_default().said;
                if said.len() == SAID {
                    said.pop_front();
                }
                said.push_back(Mark { words, archived, at });
            }
            "f" => {
                rooms.remove(&room);
            }
            _ => {}
        }
    }
    rooms
}

fn kept_lines(rooms: &HashMap<String, RoomRecord>) -> String {
    let mut out = String::new();
    for (room, kept) in rooms {
        changes(room, kept, |change| line(&change, &mut out));
    }
    out
}

/// All that is known of rooms: of those that accounts are in, and what was `kept` of those that are not joined again yet.
pub fn all(fork: &Accounts, kept: &HashMap<String, RoomRecord>) -> Vec<Change> {
    let mut all = fork.snapshot();
    for (room, kept) in kept.iter().filter(|(room, _)| !fork.has_room(room)) {
        changes(room, kept, |change| all.push(change));
    }
    all
}

fn changes(room: &str, kept: &RoomRecord, mut each: impl FnMut(Change)) {
    for (nick, &likeness) in &kept.occupants {
        each(Change::Occupant { room: room.into(), nick: (**nick).into(), likeness });
    }
    for &mark in &kept.said {
        each(Change::Message { room: room.into(), mark });
    }
}

/// Puts a whole file in the place of another. Nobody but its owner may read it, whatever the umask, and whoever could
/// read the other one.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<File> {
    let new = path.with_extension("new");
    // One that a killed process left has the access rights that it was made with.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(file)
}

impl Log {
    pub fn open(path: PathBuf) -> io::Result<(Log, HashMap<String, RoomRecord>)> {
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let rooms = read(&text);
        let text = kept_lines(&rooms);
        let file = replace(&path, &text)?;
        let written = text.len() as u64;
        Ok((Log { path, file, written, limit: SMALL.max(written * GROWTH), failed: false }, rooms))
    }

    /// Appends changes; `all` gives everything, when the file is better written anew.
    pub fn write(&mut self, changes: &[Change], all: impl FnOnce() -> Vec<Change>) {
        let mut text = String::new();
        for change in changes {
            line(change, &mut text);
        }
        let result = if self.written + text.len() as u64 > self.limit {
            let mut text = String::new();
            for change in all() {
                line(&change, &mut text);
            }
            self.written = text.len() as u64;
            self.limit = SMALL.max(self.written * GROWTH);
            replace(&self.path, &text).map(|file| self.file = file)
        } else {
            self.written += text.len() as u64;
            self.file.write_all(text.as_bytes())
        };
        match result {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!(
                    "Who is in which room cannot be kept across a restart until there is room or leave to write: {}: {error}",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_its_owners_alone_from_the_start_and_when_written_anew() {
        let dir = std::env::temp_dir().join(format!("enjamb-rooms-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory");
        let path = dir.join("rooms");
        let expose = |path: &Path| {
            fs::write(path, "f\tr@c\t\t\n").expect("written");
            fs::set_permissions(path, Permissions::from_mode(0o644)).expect("its owner may");
        };
        let mode = || fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        drop(Log::open(path.clone()).expect("made"));
        assert_eq!(mode(), 0o600);
        // What an earlier release left, finished or not.
        expose(&path);
        expose(&path.with_extension("new"));
        let (mut log, _) = Log::open(path.clone()).expect("opened");
        assert_eq!(mode(), 0o600);
        expose(&path.with_extension("new"));
        log.limit = 0;
        let said = Change::Message { room: "r@c".into(), mark: Mark { words: 7, archived: Some(8), at: 9 } };
        log.write(std::slice::from_ref(&said), || vec![said.clone()]);
        assert_eq!(mode(), 0o600);
        log.write(std::slice::from_ref(&said), Vec::new);
        assert!(!log.failed);
        let text = fs::read_to_string(&path).expect("readable");
        let (one, other) = text.split_at(text.len() / 2);
        assert!(one.starts_with("s\tr@c\t7") && one == other, "{text}");
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn reads_what_it_wrote_and_no_torn_line() {
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
        text += "+\tr@c\ttorn\t1";
        let rooms = read(&text);
        assert_eq!(rooms.len(), 1);
        let kept = &rooms["r@c"];
        assert_eq!(kept.occupants, HashMap::from([(nick.to_string(), Likeness { rest: 7, jid: Some(70) })]));
        assert_eq!(kept.said, [mark, Mark { archived: None, ..mark }]);
        assert_eq!(read(&kept_lines(&rooms))["r@c"].occupants, kept.occupants);
    }
}
