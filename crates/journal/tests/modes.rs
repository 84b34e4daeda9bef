//! Who may read the files: the owner and nobody else, whatever the umask, and whoever made them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_journal::{Config, Journal};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What anybody but the owner may touch.
fn exposed(dir: &Path) -> Vec<(PathBuf, u32)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let modes = files.map(|path| (mode(&path), path)).filter(|(mode, _)| *mode != 0o600);
    let dir = Some((mode(dir), dir.to_owned())).filter(|(mode, _)| *mode != 0o700);
    dir.into_iter().chain(modes).map(|(mode, path)| (path, mode)).collect()
}

fn fill(journal: &mut Journal, session: u64) {
    journal.set_meta(session, b"m").unwrap();
    for number in 1..=50 {
        journal.push(session, number, &[b'x'; 100]).unwrap();
        journal.commit().unwrap();
    }
}

#[test]
fn only_the_owner_may_read() {
    let above = std::env::temp_dir().join(format!("enjamb-modes-{}", std::process::id()));
    let _ = fs::remove_dir_all(&above);
    let dir = above.join("data").join("journal");
    let config = Config { segment_bytes: 1000, ..Config::default() };

    // In a process whose umask takes nothing away.
    let open = || Journal::open(&dir, config.clone()).unwrap().0;
    let mut journal = open();
    fill(&mut journal, 1);
    drop(journal);
    assert!(fs::read_dir(&dir).unwrap().count() > 5, "there are segments");
    assert_eq!(exposed(&dir), []);
    assert_eq!(mode(&above.join("data")), 0o700);

    // What an earlier release has left.
    for entry in fs::read_dir(&dir).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    let mut journal = open();
    assert_eq!(exposed(&dir), []);
    fill(&mut journal, 2);
    assert!(journal.take_trouble().is_none());
    drop(journal);
    assert_eq!(exposed(&dir), []);
    fs::remove_dir_all(&above).unwrap();
}
