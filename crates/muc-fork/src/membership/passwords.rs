//! Passwords of a room that the account's clients and its bookmark have given.

/// How many are remembered.
const MOST: usize = 4;

/// The one that is tried next comes first.
#[derive(Debug, Default)]
pub struct Passwords(Vec<Box<str>>);

impl Passwords {
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|password| &**password)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|password| &**password)
    }

    /// Given just now: it is the first that is tried. Says whether anything changed.
    pub fn prefer(&mut self, password: Option<&str>) -> bool {
        let Some(password) = password.filter(|p| !p.is_empty()) else { return false };
        if self.first() == Some(password) {
            return false;
        }
        self.0.retain(|known| **known != *password);
        self.0.insert(0, password.into());
        self.0.truncate(MOST);
        true
    }

    /// Given at some time: it is tried when the others were refused. Says whether anything changed.
    pub fn add(&mut self, password: Option<&str>) -> bool {
        let Some(password) = password.filter(|p| !p.is_empty()) else { return false };
        if self.iter().any(|known| *known == *password) {
            return false;
        }
        self.0.truncate(MOST - 1);
        self.0.push(password.into());
        true
    }

    /// The room does not take it.
    pub fn refuse(&mut self, password: Option<&str>) {
        self.0.retain(|known| Some(&**known) != password);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(passwords: &Passwords) -> Vec<&str> {
        passwords.iter().collect()
    }

    #[test]
    fn the_latest_comes_first_and_none_wipes_no_other() {
        let mut all = Passwords::default();
        assert!(all.prefer(Some("a")));
        assert!(all.prefer(Some("b")));
        assert!(!all.prefer(Some("b")));
        assert!(!all.prefer(None));
        assert!(!all.prefer(Some("")));
        assert!(all.add(Some("c")));
        assert!(!all.add(Some("a")));
        assert_eq!(of(&all), ["b", "a", "c"]);
        assert!(all.prefer(Some("c")));
        assert_eq!(of(&all), ["c", "b", "a"]);
        all.refuse(Some("b"));
        all.refuse(None);
        assert_eq!(of(&all), ["c", "a"]);
    }

    #[test]
    fn has_a_bound() {
        let mut all = Passwords::default();
        for n in 0..10 {
            all.prefer(Some(&n.to_string()));
        }
        all.add(Some("x"));
        assert_eq!(of(&all), ["9", "8", "7", "x"]);
    }
}
