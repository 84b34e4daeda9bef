//! Accounts for numbered messages of one sender to one receiver: none lost, none twice, none out of order.

/// What became of the messages 0, 1, 2, ...
#[derive(Debug, Default)]
pub struct Tally {
    times: Vec<u8>,
    next: u32,
    reordered: u32,
}

/// What is wrong with a [`Tally`], or with many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Sent and never received.
    pub lost: u64,
    /// Received more than once, counted for each time too many.
    pub duplicated: u64,
    /// Received for the first time after a later one.
    pub reordered: u64,
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

impl Tally {
    /// Message `number` has come in. Returns whether for the first time.
    pub fn received(&mut self, number: u32) -> bool {
        let index = number as usize;
        if index >= self.times.len() {
            self.times.resize(index + 1, 0);
        }
        self.times[index] = self.times[index].saturating_add(1);
        let first = self.times[index] == 1;
        if first && number < self.next {
            self.reordered += 1;
        }
        self.next = self.next.max(number + 1);
        first
    }

    /// What is wrong, given how many were sent.
    pub fn faults(&self, sent: u32) -> Faults {
        let seen = self.times.iter().take(sent as usize).filter(|&&n| n > 0).count() as u64;
        let duplicated = self.times.iter().map(|&n| u64::from(n.saturating_sub(1))).sum();
        Faults { lost: u64::from(sent) - seen, duplicated, reordered: u64::from(self.reordered) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, Tally};

    fn faults(received: &[u32], sent: u32) -> Faults {
        let mut tally = Tally::default();
        for &number in received {
            tally.received(number);
        }
        tally.faults(sent)
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        assert_eq!(faults(&[0, 1, 2], 3), Faults::default());
        assert_eq!(faults(&[], 3), Faults { lost: 3, ..Faults::default() });
        assert_eq!(faults(&[0, 2], 4), Faults { lost: 2, ..Faults::default() });
        assert_eq!(faults(&[0, 1, 0, 1, 1], 2), Faults { duplicated: 3, ..Faults::default() });
        assert_eq!(faults(&[1, 0, 2], 3), Faults { reordered: 1, ..Faults::default() });
    }

    #[test]
    fn what_is_sent_again_from_an_earlier_one_on_is_not_reordered() {
        assert_eq!(faults(&[0, 1, 2, 1, 2, 3], 4), Faults { duplicated: 2, ..Faults::default() });
    }
}
