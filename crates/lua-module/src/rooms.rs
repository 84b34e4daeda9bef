//! What of rooms outlives the process: a file to which each change is appended.
//!
//! One line per change. What a crash of the machine takes costs a client nothing but presences that it knows already;
//! nothing here waits for the disk. A line that is torn or not
//! understood is passed over. Knows nothing of Lua or of accounts.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_muc_fork::Change;
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file shorter than this many bytes is left to grow.
const SMALL: u64 = 1 << 20;
/// It is written anew when it is this many times as long as it was when it was last written anew.
const GROWTH: u64 = 4;
/// Keys of messages that are kept of a room.
const SAID: usize = 128;

/// What was kept of a room.
#[derive(Clone, Default)]
pub struct Kept {
    /// By nickname, the likeness of the presence.
    pub occupants: HashMap<String, u64>,
    /// Keys of the last messages.
    pub said: VecDeque<u64>,
}

pub struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
    /// The last write failed.
    failed: bool,
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\t', "%09").replace('\n', "%0A")
}

fn unescape(text: &str) -> String {
    text.replace("%0A", "\n").replace("%09", "\t").replace("%25", "%")
}

fn line(change: &Change, out: &mut String) {
    use std::fmt::Write;
    // Writing to a string does not fail.
    let _ = match change {
        Change::Occupant { room, nick, likeness } => {
            writeln!(out, "+\t{}\t{}\t{likeness:x}", escape(room), escape(nick))
        }
        Change::Gone { room, nick } => writeln!(out, "-\t{}\t{}\t", escape(room), escape(nick)),
        Change::Said { room, key } => writeln!(out, "s\t{}\t{key:x}\t", escape(room)),
        Change::Forgotten { room } => writeln!(out, "f\t{}\t\t", escape(room)),
    };
}

fn read(text: &str) -> HashMap<String, Kept> {
    let mut rooms: HashMap<String, Kept> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [kind, room, what, likeness] = fields[..] else { continue };
        let room = unescape(room);
        match kind {
            "+" => {
                let Ok(likeness) = u64::from_str_radix(likeness, 16) else { continue };
                rooms.entry(room).or_default().occupants.insert(unescape(what), likeness);
            }
            "-" => {
                if let Some(kept) = rooms.get_mut(&room) {
                    kept.occupants.remove(&unescape(what));
                }
            }
            "s" => {
                let Ok(key) = u64::from_str_radix(what, 16) else { continue };
                let said = &mut rooms.entry(room).or_default().said;
                if said.len() == SAID {
                    said.pop_front();
                }
                said.push_back(key);
            }
            "f" => {
                rooms.remove(&room);
            }
            _ => {}
        }
    }
    rooms
}

fn kept_lines(rooms: &HashMap<String, Kept>) -> String {
    let mut out = String::new();
    for (room, kept) in rooms {
        for (nick, &likeness) in &kept.occupants {
            line(&Change::Occupant { room: (**room).into(), nick: (**nick).into(), likeness }, &mut out);
        }
        for &key in &kept.said {
            line(&Change::Said { room: (**room).into(), key }, &mut out);
        }
    }
    out
}

/// Puts a whole file in the place of another. Nobody but its owner may read it, whatever the umask, and whoever could
/// read the other one.
fn replace(path: &Path, text: &str) -> io::Result<File> {
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
    pub fn open(path: PathBuf) -> io::Result<(Log, HashMap<String, Kept>)> {
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
        let said = Change::Said { room: "r@c".into(), key: 7 };
        log.write(std::slice::from_ref(&said), || vec![said.clone()]);
        assert_eq!(mode(), 0o600);
        log.write(std::slice::from_ref(&said), Vec::new);
        assert!(!log.failed);
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, "s\tr@c\t7\t\n".repeat(2));
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn reads_what_it_wrote_and_no_torn_line() {
        let room: Box<str> = "r@c".into();
        let nick: Box<str> = "a\tb%\n".into();
        let mut text = String::new();
        for change in [
            Change::Occupant { room: room.clone(), nick: nick.clone(), likeness: 7 },
            Change::Occupant { room: room.clone(), nick: "gone".into(), likeness: 8 },
            Change::Gone { room: room.clone(), nick: "gone".into() },
            Change::Said { room: room.clone(), key: 9 },
            Change::Occupant { room: "x@c".into(), nick: "n".into(), likeness: 1 },
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
        assert_eq!(kept.occupants, HashMap::from([(nick.to_string(), 7)]));
        assert_eq!(kept.said, [9]);
        assert_eq!(read(&kept_lines(&rooms))["r@c"].occupants, kept.occupants);
    }
}
