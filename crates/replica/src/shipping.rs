//! What of the journal is copied next.
//!
//! The journal says what it has written, segment by segment; the database says what it has of that. What is missing is sent from
//! the front to the end, in batches, one at a time: so what the database has is the journal as it was at one moment. After
//! anything that went wrong the database is asked again, and what is missing then is sent, be it a batch whose answer was
//! lost or much that a database has forgotten that took another's place.
//!
//! It knows segments, offsets and positions. Neither bytes nor statements, and no clock: time comes in as a value.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A batch has at most so many bytes ...
pub const LARGEST_BATCH: u64 = 1 << 20;
/// ... and on a database that cannot take as much in the time that it has, at least so many.
pub const SMALLEST_BATCH: u64 = 16 << 10;
/// From the start of one batch to that of the next: what is written meanwhile goes together.
pub const PACE: Duration = Duration::from_millis(2);
/// So many positions are remembered that have not been reached. With more, acks come in larger groups.
const MOST_MARKS: usize = 4096;

/// A stretch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The segment's number.
    pub segment: u32,
    /// From where on, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

/// What the database has of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment's number.
    pub segment: u32,
    /// Where the last batch of it ends.
    pub end: u64,
    /// How many bytes all of them have together.
    pub bytes: u64,
}

/// What is to be done now. Each but waiting is a statement, whose answer is to be handed in before the next is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read what the database has: [`Shipping::has`].
    Ask,
    /// Send that: [`Shipping::sent`].
    Send(Batch),
    /// Cut a segment in the database to that length: [`Shipping::cut`].
    Cut {
        /// The segment's number.
        segment: u32,
        /// How long it is, in bytes.
        end: u64,
    },
    /// Remove those segments: [`Shipping::removed`].
    Remove(Vec<u32>),
    /// Nothing before that time.
    Wait(Duration),
    /// Nothing before the journal has more.
    Rest,
}

/// A segment of the journal.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    /// Its length.
    end: u64,
    /// How much of it the database has.
    sent: u64,
}

/// A place in the journal: all segments before, and so much of that one.
pub type Place = (u32, u64);

/// What is where.
#[derive(Debug, Default)]
pub struct Shipping {
    segments: BTreeMap<u32, Segment>,
    /// Positions that have not been reached, and where that is.
    marks: VecDeque<(Place, u64)>,
    /// The position up to which the database has everything.
    durable: u64,
    /// To be removed once everything up to there is sent.
    dead: VecDeque<(Place, u32)>,
    /// What the database has too much.
    cuts: BTreeMap<u32, u64>,
    /// Segments that the database must lose before they are sent, since what it has of them is something else.
    foreign: BTreeSet<u32>,
    /// Whether it is known what the database has.
    known: bool,
    /// Segments that are new, and of which nothing was sent: whatever the database has under their number is something else. That
    /// happens if the machine has died and the journal has lost its last segments.
    fresh: BTreeSet<u32>,
    is_attached: bool,
    began: Option<Duration>,
    /// By how much batches are smaller than they might be, as a power of two.
    halved: u32,
}

impl Shipping {
    /// A segment was begun.
    pub fn begun(&mut self, segment: u32) {
        self.segments.entry(segment).or_default();
        if self.is_attached {
            self.fresh.insert(segment);
            let known = self.dead.len();
            self.dead.retain(|(_, dead)| *dead != segment);
            if self.dead.len() < known {
                self.foreign.insert(segment);
            }
        }
    }

    /// The segment that was begun last has so many bytes, and that is this position.
    pub fn written(&mut self, end: u64, position: u64) {
        let Some((&segment, last)) = self.segments.iter_mut().next_back() else { return };
        last.end = end;
        if position == 0 {
            return;
        }
        if self.marks.len() >= MOST_MARKS {
            self.marks.pop_back();
        }
        self.marks.push_back(((segment, end), position));
        self.settle();
    }

    /// Everything that the journal had was told; what comes now is new.
    pub fn attached(&mut self) {
        self.is_attached = true;
        self.fresh.extend(self.segments.last_key_value().map(|(segment, _)| *segment));
    }

    /// An earlier process has left that, of that length: it is of no more use to the journal, and may not be copied.
    pub fn left(&mut self, segment: u32, len: u64) {
        let Some(head) = self.head().filter(|(head, _)| segment < *head) else { return };
        if let Entry::Vacant(vacant) = self.segments.entry(segment) {
            vacant.insert(Segment { end: len, sent: 0 });
            self.dead.push_back((head, segment));
        }
    }

    /// A segment can be read no more. Whether it was of no more use to the journal: then the database does without.
    pub fn gone(&mut self, segment: u32) -> bool {
        let is_dead = self.dead.iter().any(|(_, dead)| *dead == segment);
        if is_dead {
            self.segments.remove(&segment);
        }
        is_dead
    }

    /// A segment is of no more use once everything written so far is sent.
    pub fn dead(&mut self, segment: u32) {
        if let Some(head) = self.head() {
            self.dead.push_back((head, segment));
        }
    }

    /// The position up to which the database has everything.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// How many bytes the database does not have yet.
    pub fn lag(&self) -> u64 {
        self.segments.values().map(|s| s.end - s.sent).sum()
    }

    /// Whether it has all of it.
    pub fn is_done(&self) -> bool {
        self.known && self.lag() == 0
    }

    /// Whether anything of that segment may still have to be read.
    pub fn wants(&self, segment: u32) -> bool {
        match self.segments.get(&segment) {
            Some(s) => !self.known || s.sent < s.end || self.head().is_some_and(|(head, _)| head == segment),
            None => false,
        }
    }

    /// What to do now.
    pub fn next(&self, now: Duration) -> Step {
        if self.segments.is_empty() {
            return Step::Rest;
        }
        if !self.known {
            return Step::Ask;
        }
        if !self.foreign.is_empty() {
            return Step::Remove(self.foreign.iter().copied().collect());
        }
        if let Some((&segment, &end)) = self.cuts.first_key_value() {
            return Step::Cut { segment, end };
        }
        let ready = self.ready();
        if !ready.is_empty() {
            return Step::Remove(ready);
        }
        let Some((segment, Segment { end, sent })) = self.front() else { return Step::Rest };
        match self.began.map(|began| began + PACE).filter(|due| *due > now) {
            Some(due) => Step::Wait(due),
            None => Step::Send(Batch { segment, offset: sent, len: (end - sent).min(self.largest()) }),
        }
    }

    /// The answer to [`Step::Ask`].
    pub fn has(&mut self, extents: &[Extent]) {
        self.known = true;
        self.cuts.clear();
        self.foreign.clear();
        let Some(head) = self.head() else { return };
        self.segments.values_mut().for_each(|s| s.sent = 0);
        for &Extent { segment, end, bytes } in extents {
            let foreign = self.fresh.contains(&segment);
            match self.segments.get_mut(&segment) {
                // It is not the journal's any more: what was live in it is in what is still to be sent.
                None => {
                    if !self.dead.iter().any(|(_, dead)| *dead == segment) {
                        self.dead.push_back((head, segment));
                    }
                }
                Some(_) if foreign || bytes != end => drop(self.foreign.insert(segment)),
                Some(s) => {
                    s.sent = end.min(s.end);
                    if end > s.end {
                        self.cuts.insert(segment, s.end);
                    }
                }
            }
        }
        self.settle();
    }

    /// A batch is about to be sent.
    pub fn sending(&mut self, batch: Batch, now: Duration) {
        self.fresh.remove(&batch.segment);
        self.began = Some(now);
    }

    fn largest(&self) -> u64 {
        (LARGEST_BATCH >> self.halved).max(SMALLEST_BATCH)
    }

    /// A batch was not done within its time: the next is smaller.
    pub fn slow(&mut self) {
        if self.largest() > SMALLEST_BATCH {
            self.halved += 1;
        }
    }

    /// The database has that batch, and it counts.
    pub fn sent(&mut self, batch: Batch) {
        self.halved = self.halved.saturating_sub(u32::from(batch.len == self.largest()));
        if let Some(s) = self.segments.get_mut(&batch.segment)
            && s.sent == batch.offset
        {
            s.sent = (batch.offset + batch.len).min(s.end);
        }
        self.settle();
    }

    /// A segment was cut to its length.
    pub fn cut(&mut self, segment: u32) {
        self.cuts.remove(&segment);
    }

    /// The database has nothing of those any more.
    pub fn removed(&mut self, segments: &[u32]) {
        for segment in segments {
            if self.foreign.remove(segment) {
                continue; // it is sent again
            }
            self.segments.remove(segment);
            self.dead.retain(|(_, dead)| dead != segment);
        }
        self.settle();
    }

    /// Something went wrong, or the connection was lost: what the database has is to be asked again.
    pub fn disconnected(&mut self) {
        self.known = false;
    }

    /// Whether the database has everything up to there.
    pub fn is_sent(&self, place: Place) -> bool {
        self.known && place <= self.reached()
    }

    /// The end of what is written.
    pub fn head(&self) -> Option<Place> {
        self.segments.last_key_value().map(|(segment, s)| (*segment, s.end))
    }

    /// The first segment that is not sent as far as it is written.
    fn front(&self) -> Option<(u32, Segment)> {
        self.segments.iter().find(|(_, s)| s.sent < s.end).map(|(segment, s)| (*segment, *s))
    }

    /// Up to where everything is sent.
    fn reached(&self) -> Place {
        self.front().map_or((u32::MAX, u64::MAX), |(segment, s)| (segment, s.sent))
    }

    /// Dead segments that may go.
    fn ready(&self) -> Vec<u32> {
        let reached = self.reached();
        self.dead.iter().take_while(|(place, _)| *place <= reached).map(|(_, segment)| *segment).collect()
    }

    fn settle(&mut self) {
        if !self.known || !self.foreign.is_empty() {
            return;
        }
        let reached = self.reached();
        while let Some(&(_, position)) = self.marks.front().filter(|(place, _)| *place <= reached) {
            self.marks.pop_front();
            self.durable = self.durable.max(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn attached(segments: &[(u32, u64)]) -> Shipping {
        let mut shipping = Shipping::default();
        for (segment, end) in segments {
            shipping.begun(*segment);
            shipping.written(*end, 0);
        }
        shipping.attached();
        shipping
    }

    fn extent(segment: u32, end: u64) -> Extent {
        Extent { segment, end, bytes: end }
    }

    #[test]
    fn what_is_written_is_sent_in_order_and_then_durable() {
        let mut shipping = attached(&[(3, 10), (4, 60)]);
        assert_eq!(shipping.next(NOW), Step::Ask);
        shipping.has(&[]);
        shipping.written(70, 10);
        let first = Batch { segment: 3, offset: 0, len: 10 };
        assert_eq!(shipping.next(NOW), Step::Send(first));
        shipping.sending(first, NOW);
        shipping.sent(first);
        assert_eq!((shipping.durable(), shipping.lag()), (0, 70));
        assert_eq!(shipping.next(NOW), Step::Wait(NOW + PACE));
        let second = Batch { segment: 4, offset: 0, len: 70 };
        assert_eq!(shipping.next(NOW + PACE), Step::Send(second));
        // What was written since is not in it.
        shipping.written(80, 20);
        shipping.sent(second);
        assert_eq!(shipping.durable(), 10);
        shipping.sent(Batch { segment: 4, offset: 70, len: 10 });
        assert_eq!((shipping.durable(), shipping.next(NOW)), (20, Step::Rest));
    }

    #[test]
    fn nothing_is_durable_before_the_database_was_asked() {
        let mut shipping = attached(&[(1, 10)]);
        shipping.has(&[]);
        let batch = Batch { segment: 1, offset: 0, len: 10 };
        shipping.sending(batch, NOW);
        shipping.sent(batch);
        shipping.disconnected();
        shipping.written(20, 20);
        assert_eq!((shipping.durable(), shipping.next(NOW)), (0, Step::Ask));
        // It has lost everything.
        shipping.has(&[]);
        assert_eq!(shipping.next(NOW + PACE), Step::Send(Batch { segment: 1, offset: 0, len: 20 }));
        // Or has all of it: the answer was lost.
        shipping.has(&[extent(1, 20)]);
        assert_eq!((shipping.durable(), shipping.next(NOW)), (20, Step::Rest));
    }

    #[test]
    fn a_dead_segment_goes_when_what_replaces_it_is_there() {
        let mut shipping = attached(&[(1, 10), (2, 5)]);
        shipping.has(&[extent(1, 10)]);
        shipping.removed(&[]);
        shipping.dead(1);
        let batch = Batch { segment: 2, offset: 0, len: 5 };
        assert_eq!(shipping.next(NOW), Step::Send(batch));
        shipping.sent(batch);
        assert_eq!(shipping.next(NOW), Step::Remove(vec![1]));
        shipping.removed(&[1]);
        assert_eq!((shipping.next(NOW), shipping.wants(1), shipping.wants(2)), (Step::Rest, false, true));
    }

    #[test]
    fn what_the_journal_does_not_have_any_more_goes_in_the_end() {
        let mut shipping = attached(&[(5, 10), (6, 4)]);
        shipping.has(&[extent(2, 7), extent(5, 10)]);
        let batch = Batch { segment: 6, offset: 0, len: 4 };
        assert_eq!(shipping.next(NOW), Step::Send(batch));
        shipping.sent(batch);
        assert_eq!(shipping.next(NOW), Step::Remove(vec![2]));
    }

    #[test]
    fn what_was_cut_here_is_cut_there() {
        let mut shipping = attached(&[(5, 10), (6, 4)]);
        shipping.has(&[extent(5, 13)]);
        assert_eq!(shipping.next(NOW), Step::Cut { segment: 5, end: 10 });
        shipping.cut(5);
        assert!(matches!(shipping.next(NOW), Step::Send(Batch { segment: 6, .. })));
    }

    #[test]
    fn what_has_the_number_of_a_new_segment_or_a_hole_is_removed_first() {
        let mut shipping = attached(&[(5, 10), (6, 4)]);
        shipping.has(&[Extent { bytes: 9, ..extent(5, 10) }, extent(6, 4)]);
        assert_eq!(shipping.next(NOW), Step::Remove(vec![5, 6]));
        shipping.removed(&[5, 6]);
        assert_eq!(shipping.next(NOW), Step::Send(Batch { segment: 5, offset: 0, len: 10 }));
    }

    #[test]
    fn a_database_that_is_slow_gets_smaller_batches_for_a_while() {
        let mut shipping = attached(&[(1, 10), (2, 4 * LARGEST_BATCH)]);
        shipping.has(&[extent(1, 10)]);
        let len = |shipping: &Shipping| match shipping.next(NOW) {
            Step::Send(batch) => batch.len,
            other => panic!("{other:?}"),
        };
        for _ in 0..20 {
            shipping.slow();
        }
        assert_eq!(len(&shipping), SMALLEST_BATCH);
        for _ in 0..7 {
            let Step::Send(batch) = shipping.next(NOW) else { panic!("there is more") };
            shipping.sent(batch);
        }
        assert_eq!(len(&shipping), LARGEST_BATCH);
    }

    #[test]
    fn what_a_process_left_unsent_goes_first_and_then_away() {
        let mut shipping = attached(&[(5, 10), (6, 4)]);
        shipping.left(2, 8);
        shipping.has(&[extent(2, 3)]);
        let batches =
            [(2, 3, 5), (5, 0, 10), (6, 0, 4)].map(|(segment, offset, len)| Batch { segment, offset, len });
        for batch in batches {
            assert_eq!(shipping.next(NOW), Step::Send(batch));
            shipping.sent(batch);
        }
        assert_eq!(shipping.next(NOW), Step::Remove(vec![2]));
        // The database has forgotten all of it, and it is not on the disk any more.
        shipping.has(&[]);
        assert!(shipping.gone(2) && !shipping.gone(5));
        assert_eq!(shipping.next(NOW), Step::Send(Batch { segment: 5, offset: 0, len: 10 }));
    }

    #[test]
    fn a_database_that_is_away_does_not_fill_the_memory() {
        let mut shipping = attached(&[(1, 10)]);
        shipping.has(&[]);
        for position in 1..100_000 {
            shipping.written(10 + position, position);
        }
        assert!(shipping.marks.len() <= MOST_MARKS);
        shipping.sending(Batch { segment: 1, offset: 0, len: 1 }, NOW);
        shipping.has(&[extent(1, 10 + 99_999)]);
        assert_eq!(shipping.durable(), 99_999);
    }
}
