//! No two modules of this crate import each other, directly or through others. A module and those within it count apart: what
//! is within may be named by its parent, not the other way round.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Imports = BTreeMap<String, BTreeSet<String>>;

fn read(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            read(&path, &format!("{prefix}{name}::"), files);
        } else if name != "lib" {
            files.insert(format!("{prefix}{name}"), std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn imports() -> Imports {
    let mut files = BTreeMap::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    let paths = |text: &str| -> BTreeSet<String> {
        let used = text.lines().filter_map(|line| line.trim_start().strip_prefix("use crate::"));
        // The longest path that names a module.
        let module = |path: &str| {
            let end = path.find(['{', ';']).unwrap_or(path.len());
            let mut path = path[..end].trim_end_matches("::");
            while !files.contains_key(path) {
                path = path.rsplit_once("::")?.0;
            }
            Some(path.to_owned())
        };
        used.filter_map(module).collect()
    };
    files.iter().map(|(name, text)| (name.clone(), paths(text))).collect()
}

fn cycle(imports: &Imports, path: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
    let here = path.last().unwrap().clone();
    for next in &imports[&here] {
        if let Some(i) = path.iter().position(|module| module == next) {
            return Some(path[i..].to_vec());
        }
        if !done.contains(next) {
            path.push(next.clone());
            if let Some(found) = cycle(imports, path, done) {
                return Some(found);
            }
            path.pop();
        }
    }
    done.insert(here);
    None
}

#[test]
fn no_modules_import_each_other() {
    let imports = imports();
    assert!(imports["sending::presence"].contains("accounts"), "imports are found: {imports:?}");
    let mut done = BTreeSet::new();
    for module in imports.keys() {
        assert_eq!(cycle(&imports, &mut vec![module.clone()], &mut done), None);
    }
}
