//! A file of lines to which each change is appended, and that is written anew when it has grown.
//!
//! For what is beside the journal: records that replace each other and that nobody waits for, such as who is in which room.
//! What a line says is its owner's affair, who reads it back in order. Nothing is synced: what a crash of the machine takes
//! is a part of the end, or of what was written anew. So an owner passes over lines that it does not understand, and says
//! how many there were: that is logged.
//!
//! - A file shorter than 1 MiB is left to grow; a longer one until it is four times as long as when it was written anew last.
//! - It is written anew beside the old one, and takes its place in one step. Nobody but its owner may read it, whatever the
//!   umask, and whoever could read the old one.
//! - A write that fails may leave half a line and lose those that come after it. It is logged once, and with the next change
//!   all is written anew.
//!
//! # Example
//!
//! ```
//! # let path = std::env::temp_dir().join(format!("enjamb-lines-doc-{}", std::process::id()));
//! use enjamb_journal::lines::{Lines, Read};
//!
//! let mut known = std::collections::BTreeSet::new();
//! let mut read = |text: &str| {
//!     known.extend(text.lines().map(str::to_owned));
//!     Read { needed: known.iter().map(|line| format!("{line}\n")).collect(), senseless: 0 }
//! };
//! let mut lines = Lines::open(path.clone(), "Who was seen", &mut read)?;
//! lines.append("juliet\n", || unreachable!("it is short"));
//! drop(lines);
//! Lines::open(path.clone(), "Who was seen", &mut read)?;
//! assert!(known.contains("juliet"));
//! # std::fs::remove_file(path)?;
//! # Ok::<(), std::io::Error>(())
//! ```

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file shorter than this many bytes is left to grow.
const SMALL: u64 = 1 << 20;
/// It is written anew when it is this many times as long as it was when it was last written anew.
const GROWTH: u64 = 4;

/// What the owner of a file made of its lines.
#[derive(Debug, Default)]
pub struct Read {
    /// Those that are still needed.
    pub needed: String,
    /// How many made no sense.
    pub senseless: usize,
}

/// An open file of lines.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    /// What is in it, as the log says it.
    what: &'static str,
    file: File,
    written: u64,
    limit: u64,
    /// The last write failed.
    failed: bool,
}

impl Lines {
    /// Opens the file, or makes it. `read` is given all its whole lines, and says which are still needed: with these
    /// it is written anew. `what` it keeps is the subject of a sentence in the log, if that fails some day, or some of it made no
    /// sense.
    ///
    /// # Errors
    /// The operating system's. Nothing is lost then.
    pub fn open(path: PathBuf, what: &'static str, read: impl FnOnce(&str) -> Read) -> io::Result<Lines> {
        let mut bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A line whose end is missing was not written to its end.
        bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1));
        let (text, mut senseless) = text_of(&bytes);
        let read = read(&text);
        senseless += read.senseless;
        if senseless > 0 {
            tracing::error!(
                "{what} is not known in full, since {senseless} lines of {} make no sense: after a crash of the machine, or on a bad \
                 disk. Clients may be told once more what they know, and not what has gone meanwhile",
                path.display()
            );
        }
        let file = replace(&path, &read.needed)?;
        let written = read.needed.len() as u64;
        Ok(Lines { path, what, file, written, limit: limit(written), failed: false })
    }

    /// Appends whole lines; `all` gives all that are needed, these included, when the file is better written anew.
    pub fn append(&mut self, lines: &str, all: impl FnOnce() -> String) {
        let result = if self.failed || self.written + lines.len() as u64 > self.limit {
            self.write_anew(&all())
        } else {
            self.written += lines.len() as u64;
            self.file.write_all(lines.as_bytes())
        };
        match result {
            Ok(()) => self.failed = false,
            Err(error) => {
                if !self.failed {
                    tracing::error!(
                        "{} cannot be kept across a restart until there is room or leave to write: {}: {error}",
                        self.what,
                        self.path.display()
                    );
                }
                self.failed = true;
            }
        }
    }

    /// Whether the last write failed: the next [`Lines::append`] writes all anew.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn write_anew(&mut self, text: &str) -> io::Result<()> {
        self.file = replace(&self.path, text)?;
        self.written = text.len() as u64;
        self.limit = limit(self.written);
        Ok(())
    }
}

/// The lines that are text, and how many are none.
fn text_of(bytes: &[u8]) -> (Cow<'_, str>, usize) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.into(), 0);
    }
    let (mut text, mut senseless) = (String::new(), 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match std::str::from_utf8(line) {
            Ok(line) => text.push_str(line),
            Err(_) => senseless += 1,
        }
    }
    (text.into(), senseless)
}

/// How long what has so many bytes may become before it is written anew.
pub fn limit(written: u64) -> u64 {
    SMALL.max(written * GROWTH)
}

/// Puts a whole file in the place of another. Nobody but its owner may read it.
///
/// # Errors
/// The operating system's. Then the other one is there still.
pub fn replace(path: &Path, text: &str) -> io::Result<File> {
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

/// Writes one line of fields with tabs between them.
pub fn write<const N: usize>(out: &mut String, fields: [&str; N]) {
    for (n, field) in fields.into_iter().enumerate() {
        if n > 0 {
            out.push('\t');
        }
        for c in field.chars() {
            match c {
                '%' => out.push_str("%25"),
                '\t' => out.push_str("%09"),
                '\n' => out.push_str("%0A"),
                c => out.push(c),
            }
        }
    }
    out.push('\n');
}

/// The lines of a text, each as that many fields, as they were given to [`write()`]; `None` if it has another number of them.
pub fn fields<const N: usize>(text: &str) -> impl Iterator<Item = Option<[String; N]>> {
    text.split_terminator('\n').map(|line| {
        let fields: Vec<String> = line.split('\t').map(unescape).collect();
        fields.try_into().ok()
    })
}

fn unescape(field: &str) -> String {
    field.replace("%0A", "\n").replace("%09", "\t").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("enjamb-lines-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn open(path: &Path) -> Lines {
        let read = |text: &str| Read { needed: text.to_owned(), senseless: 0 };
        Lines::open(path.to_owned(), "What is tested", read).unwrap()
    }

    #[test]
    fn is_its_owners_alone_from_the_start_and_when_written_anew() {
        let dir = folder("modes");
        let path = dir.join("lines");
        let expose = |path: &Path| {
            fs::write(path, "old\n").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        };
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(open(&path));
        assert_eq!(mode(), 0o600);
        // What an earlier release left, finished or not.
        expose(&path);
        expose(&path.with_extension("new"));
        let mut lines = open(&path);
        assert_eq!(mode(), 0o600);
        expose(&path.with_extension("new"));
        lines.limit = 0;
        lines.append("one\n", || "all\n".into());
        assert_eq!(mode(), 0o600);
        lines.append("two\n", || panic!("it is short again"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "all\ntwo\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_line_that_was_cut_is_no_line() {
        let dir = folder("torn");
        let path = dir.join("lines");
        for (there, expected) in [("", ""), ("a", ""), ("a\n", "a\n"), ("a\nb\nc", "a\nb\n")] {
            fs::write(&path, there).unwrap();
            let mut lines = open(&path);
            lines.append("more\n", || panic!("it is short"));
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{expected}more\n"));
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_written_later_and_whole() {
        let dir = folder("later");
        let path = dir.join("lines");
        let mut lines = open(&path);
        lines.file = File::open(&path).unwrap(); // not for writing
        lines.append("one\n", || panic!("it is short"));
        assert!(lines.has_failed());
        fs::create_dir(path.with_extension("new")).unwrap(); // in the way
        lines.append("two\n", || "one\ntwo\n".into());
        assert!(lines.has_failed());
        fs::remove_dir(path.with_extension("new")).unwrap();
        lines.append("three\n", || "one\ntwo\nthree\n".into());
        lines.append("four\n", || panic!("it is short"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\n");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = folder("growth");
        let path = dir.join("lines");
        let mut lines = open(&path);
        let mut anew = 0;
        for _ in 0..100 {
            lines.append(&format!("{}\n", "x".repeat(99_999)), || {
                anew += 1;
                "all\n".into()
            });
            assert!(fs::metadata(&path).unwrap().len() <= SMALL);
        }
        assert!((5..15).contains(&anew), "{anew}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn fields_read_back_as_they_were_given() {
        let odd = ["", "a\tb", "%\n%25", "%0A"];
        let mut text = "another\tnumber\n".to_owned();
        write(&mut text, odd);
        assert_eq!(fields(&text).collect::<Vec<Option<[String; 4]>>>(), [None, Some(odd.map(str::to_owned))]);
    }

    #[test]
    fn a_line_that_is_no_text_costs_no_other() {
        assert_eq!(text_of(b"a\nb\n"), ("a\nb\n".into(), 0));
        assert_eq!(text_of(b"a\n\xff\nb\n\xc3\n"), ("a\nb\n".into(), 2));
    }
}
