//! Status codes that came with the account's own presence (XEP-0045 §15.6), for those of its clients that come later.

/// Codes that were for the client whose join created the room, or was given another nickname; and those of a room that may be
/// another by now: [`ENTRY`].
pub const PERSONAL: &[u16] = &[201, 210, 100, 170];
/// Codes of a join that say what the room is, and hold for later ones.
const ENTRY: &[u16] = &[100, 170];
/// How many are remembered.
const MOST: usize = 32;

#[derive(Debug, Default)]
pub struct Codes {
    /// Those that say what the room is: they hold for whoever joins later.
    pub entry: Vec<u16>,
    /// Others that the room gave with the join, until a client has been told.
    pub untold: Vec<u16>,
}

impl Codes {
    /// What an own presence of the account's tells beside the presence.
    pub fn note(&mut self, codes: &[u16]) {
        self.note_news(codes);
        for code in codes.iter().filter(|code| ENTRY.contains(code)) {
            if !self.entry.contains(code) {
                add(&mut self.entry, *code);
            }
        }
    }

    /// What of it is not about what the room is. Whether there is any that was not told before.
    pub fn note_news(&mut self, codes: &[u16]) -> bool {
        let before = self.untold.len();
        for code in codes {
            // 110, 210 and 303 are of that presence alone.
            let passing = matches!(code, 110 | 210 | 303) || ENTRY.contains(code);
            if !passing && !self.untold.contains(code) && self.untold.len() < MOST {
                self.untold.push(*code);
            }
        }
        self.untold.len() > before
    }

    /// They are those of a stay that is over.
    pub fn clear(&mut self) {
        self.entry.clear();
        self.untold.clear();
    }
}

/// The room tells by `codes` that it is another from now on (XEP-0045 §10.2.1), and so `entry` is.
pub fn change(entry: &mut Vec<u16>, codes: &[u16]) {
    for code in codes {
        match code {
            170 if !entry.contains(&170) => add(entry, 170),
            172 if !entry.contains(&100) => add(entry, 100),
            171 => entry.retain(|code| *code != 170),
            173 | 174 => entry.retain(|code| *code != 100),
            _ => {}
        }
    }
}

/// They are in order.
fn add(codes: &mut Vec<u16>, code: u16) {
    codes.insert(codes.partition_point(|other| *other < code), code);
}
