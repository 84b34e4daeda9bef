//! Who serves: one node of a cluster at a time, without anybody's wall clock.
//!
//! The lease is a row: who has it, its *epoch*, which rises with each that takes it, and its *beat*, which the holder raises. A node
//! knows two things by its own monotonic clock alone. The holder: until when it may serve, which is the start of the last renewal
//! that was confirmed, and the lease, less a margin. Who waits: that it has seen the same beat for a whole lease, from the moment
//! the first answer with it was here to the moment the last question was asked. Since the beat was there only after its renewal had
//! begun, the holder's time is over then. Taking is a compare-and-set on epoch and beat, so a renewal that comes in between wins.
//!
//! No socket, no clock, no statement: time comes in as a value, and so do answers; what to do comes out as a [`Step`]. Times are
//! of a clock that goes on while the machine sleeps (CLOCK_BOOTTIME), in whatever count.

use std::time::Duration;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a beat must stand still before another node takes over.
    pub lease: Duration,
    /// How much earlier than that the holder stops by itself: for clocks that run at different speeds, and for what is under way.
    pub margin: Duration,
    /// From the start of one renewal to the next.
    pub beat: Duration,
    /// From one look of a node that waits to the next.
    pub look: Duration,
    /// The holder's main thread must have turned within this time, else nothing is renewed.
    pub silence: Duration,
}

impl Terms {
    /// With a lease of that length; less than three seconds counts as three.
    pub fn new(lease: Duration) -> Terms {
        let lease = lease.max(Duration::from_secs(3));
        Terms {
            lease,
            margin: (lease / 10).max(Duration::from_millis(500)),
            beat: Duration::from_secs(1),
            look: Duration::from_millis(250),
            silence: Duration::from_secs(30),
        }
    }
}

/// The row of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who has the lease, or had it last: what no other node has.
    pub holder: String,
    /// What that node is called, for people.
    pub name: String,
    /// How often it was taken.
    pub epoch: u64,
    /// How often it was renewed.
    pub beat: u64,
    /// Its holder has given it up.
    pub released: bool,
}

/// What is to be done now. Each but waiting is a statement, whose answer is to be handed in before the next is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the row: [`Lease::looked`].
    Look,
    /// Make the row this node's: [`Lease::claimed`].
    Claim(Claim),
    /// Raise the beat if the row is still of this epoch and not released: [`Lease::renewed`].
    Renew(u64),
    /// Give the row of this epoch up: [`Lease::gave_up`].
    Release(u64),
    /// Nothing before that time.
    Wait(Duration),
    /// Nothing any more.
    Done,
}

/// A compare-and-set: it must fail unless the row is as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What was seen. The row must have this epoch; and be this node's own, or released, or have this beat still. `None`: there
    /// must be no row.
    pub from: Option<Row>,
    /// The new epoch.
    pub epoch: u64,
}

/// How a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known yet.
    Unknown,
    /// Somebody else has the lease.
    Waiting(Row),
    /// It has this epoch. What was there before it: nothing, or a row that this node may have had itself.
    Holding {
        /// The epoch.
        epoch: u64,
        /// The row that it was taken from.
        before: Option<Row>,
    },
    /// It had the lease, and another has taken it, or the row is gone.
    Lost(Option<Row>),
    /// It has given it up.
    Released,
}

/// A node's view of the lease.
#[derive(Debug)]
pub struct Lease {
    me: String,
    terms: Terms,
    standing: Standing,
    /// While waiting: since when this row has been the same, to this node's knowledge.
    since: Option<Duration>,
    /// While waiting: when the last look began.
    looked: Option<Duration>,
    /// A claim without an answer, and when it began.
    claim: Option<(Claim, Duration)>,
    /// While holding: the start of the last renewal that was confirmed.
    confirmed: Option<Duration>,
    /// While holding: the start of the last renewal.
    began: Option<Duration>,
    /// While holding: it is to be found out whether the row is still there.
    doubtful: bool,
    wish: Wish,
}

/// What a holder wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Serve,
    /// To serve nobody any more, and keep the lease for what is left to do.
    Retire,
    /// To give it up.
    Release,
}

impl Lease {
    /// Of the node of that name, which nobody else may have: a row with it is this node's, from an earlier life.
    pub fn new(me: impl Into<String>, terms: Terms) -> Lease {
        Lease {
            me: me.into(),
            terms,
            standing: Standing::Unknown,
            since: None,
            looked: None,
            claim: None,
            confirmed: None,
            began: None,
            doubtful: false,
            wish: Wish::Serve,
        }
    }

    /// How this node stands.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The epoch, while it holds the lease.
    pub fn epoch(&self) -> Option<u64> {
        match self.standing {
            Standing::Holding { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Until when this node may serve. `None`: it may not.
    pub fn deadline(&self) -> Option<Duration> {
        let holds = self.epoch().is_some() && self.wish == Wish::Serve;
        let confirmed = self.confirmed.filter(|_| holds)?;
        Some(confirmed + self.terms.lease.saturating_sub(self.terms.margin))
    }

    /// It is to serve nobody from now on, though it goes on renewing.
    pub fn retire(&mut self) {
        if self.wish == Wish::Serve {
            self.wish = Wish::Retire;
        }
    }

    /// The lease is to be given up; without one there is nothing to give up, and the node is done.
    pub fn release(&mut self) {
        self.wish = Wish::Release;
        if self.epoch().is_none() && self.claim.is_none() && !matches!(self.standing, Standing::Lost(_)) {
            self.standing = Standing::Released;
        }
    }

    /// What to do. `turned` is when the main thread did last; `None` as long as that is not watched.
    pub fn next(&self, now: Duration, turned: Option<Duration>) -> Step {
        if self.claim.is_some() {
            return Step::Look; // only the row says what became of it
        }
        match &self.standing {
            Standing::Unknown => Step::Look,
            Standing::Waiting(row) => self.wait(row, now),
            Standing::Holding { .. } if self.doubtful => Step::Look,
            Standing::Holding { epoch, .. } if self.wish == Wish::Release => Step::Release(*epoch),
            Standing::Holding { epoch, .. } => self.hold(*epoch, now, turned),
            Standing::Lost(_) | Standing::Released => Step::Done,
        }
    }

    fn wait(&self, row: &Row, now: Duration) -> Step {
        let claim = || Step::Claim(Claim { from: Some(row.clone()), epoch: row.epoch + 1 });
        let Some(looked) = self.looked else { return Step::Look };
        // Its own row is from before this process began: the directory's lock says that the one that wrote it is gone.
        if row.released || row.holder == self.me {
            return claim();
        }
        if self.since.is_some_and(|since| looked >= since + self.terms.lease) {
            return claim();
        }
        match looked + self.terms.look {
            due if due <= now => Step::Look,
            due => Step::Wait(due),
        }
    }

    fn hold(&self, epoch: u64, now: Duration, turned: Option<Duration>) -> Step {
        let due = self.began.map_or(now, |began| began + self.terms.beat);
        if due > now {
            return Step::Wait(due);
        }
        match turned.is_some_and(|turned| turned + self.terms.silence <= now) {
            true => Step::Wait(now + self.terms.beat),
            false => Step::Renew(epoch),
        }
    }

    /// A look that began at `started` found this row, or none; the answer is here `now`.
    pub fn looked(&mut self, started: Duration, now: Duration, row: Option<Row>) {
        let own = |row: &Row, epoch: u64| row.epoch == epoch && row.holder == self.me;
        if let Some((claim, began)) = self.claim.take() {
            if row.as_ref().is_some_and(|row| own(row, claim.epoch)) {
                self.take(claim, began);
                return;
            }
            self.standing = Standing::Unknown;
        }
        if let Standing::Holding { epoch, .. } = self.standing {
            self.doubtful = false;
            if !row.as_ref().is_some_and(|row| own(row, epoch) && !row.released) {
                self.lose(row);
            }
            return;
        }
        if matches!(self.standing, Standing::Lost(_) | Standing::Released) {
            return;
        }
        if self.wish == Wish::Release {
            self.standing = Standing::Released;
            return;
        }
        // No row: the first node of a cluster. What it claims then is that there is still none.
        let row = row.unwrap_or(Row {
            holder: String::new(),
            name: String::new(),
            epoch: 0,
            beat: 0,
            released: true,
        });
        let same = matches!(&self.standing, Standing::Waiting(before) if *before == row);
        if !same || self.since.is_none() {
            self.since = Some(now);
        }
        self.looked = Some(started);
        self.standing = Standing::Waiting(row);
    }

    /// A claim was sent at `started`.
    pub fn claiming(&mut self, claim: Claim, started: Duration) {
        self.claim = Some((claim, started));
    }

    /// It was answered: it is this node's now, or was not as it was seen. Without an answer ask [`Lease::next`] what to do.
    pub fn claimed(&mut self, taken: bool) {
        let Some((claim, started)) = self.claim.take() else { return };
        match taken {
            true => self.take(claim, started),
            false => self.forget(),
        }
    }

    /// It was answered with an error that says that nothing has changed.
    pub fn not_claimed(&mut self) {
        self.claim = None;
    }

    fn take(&mut self, claim: Claim, started: Duration) {
        let before = claim.from.filter(|row| row.epoch > 0);
        self.standing = Standing::Holding { epoch: claim.epoch, before };
        (self.confirmed, self.began, self.doubtful) = (Some(started), Some(started), false);
    }

    /// A renewal began at `started`.
    pub fn renewing(&mut self, started: Duration) {
        self.began = Some(started);
    }

    /// It was answered: the row is this node's still, or not.
    pub fn renewed(&mut self, started: Duration, still: bool) {
        match still {
            true => self.confirmed = self.confirmed.max(Some(started)),
            false => self.doubtful = true,
        }
    }

    /// A batch, or something else that only the holder can do, found another epoch or none.
    pub fn fenced(&mut self) {
        self.doubtful = self.epoch().is_some();
    }

    /// The row is given up, or was another's already.
    pub fn gave_up(&mut self) {
        self.standing = Standing::Released;
        self.confirmed = None;
    }

    /// The connection is lost. What was under way may have been done, or may yet be.
    pub fn disconnected(&mut self) {
        self.since = None;
        self.looked = None;
        // At once when it is back.
        self.began = None;
        if matches!(self.standing, Standing::Waiting(_)) {
            self.forget();
        }
    }

    fn lose(&mut self, row: Option<Row>) {
        self.standing = Standing::Lost(row);
        self.confirmed = None;
    }

    fn forget(&mut self) {
        self.standing = Standing::Unknown;
        self.since = None;
        self.looked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn row(holder: &str, epoch: u64, beat: u64) -> Row {
        Row { holder: holder.into(), name: String::new(), epoch, beat, released: false }
    }

    fn lease(me: &str) -> Lease {
        Lease::new(me, Terms::new(s(10)))
    }

    fn holder() -> Lease {
        let mut lease = lease("a");
        lease.looked(s(0), s(0), None);
        let Step::Claim(claim) = lease.next(s(0), None) else { panic!("it is free") };
        assert_eq!(claim.epoch, 1);
        lease.claiming(claim, s(0));
        lease.claimed(true);
        lease
    }

    #[test]
    fn the_first_takes_it_and_serves_until_its_time_is_over() {
        let mut lease = holder();
        assert_eq!(lease.standing(), &Standing::Holding { epoch: 1, before: None });
        assert_eq!(lease.deadline(), Some(s(9)));
        assert_eq!(lease.next(s(0), None), Step::Wait(s(1)));
        assert_eq!(lease.next(s(1), None), Step::Renew(1));
        lease.renewing(s(1));
        // It counts from its start, however late it is answered.
        lease.renewed(s(1), true);
        assert_eq!(lease.deadline(), Some(s(10)));
    }

    #[test]
    fn who_waits_has_to_have_seen_the_same_beat_for_a_lease() {
        let mut lease = lease("b");
        lease.looked(s(0), s(2), Some(row("a", 1, 5)));
        lease.looked(s(11), s(12), Some(row("a", 1, 5)));
        assert_eq!(lease.next(s(12), None), Step::Look, "the first answer came at 2");
        lease.looked(s(12), s(13), Some(row("a", 1, 5)));
        let from = Some(row("a", 1, 5));
        assert_eq!(lease.next(s(13), None), Step::Claim(Claim { from, epoch: 2 }));
        lease.looked(s(13), s(13), Some(row("a", 1, 6)));
        assert!(matches!(lease.next(s(13), None), Step::Wait(_)));
        // While the connection was lost nothing was seen.
        lease.looked(s(14), s(14), Some(row("a", 1, 6)));
        lease.disconnected();
        lease.looked(s(24), s(24), Some(row("a", 1, 6)));
        assert!(matches!(lease.next(s(24), None), Step::Wait(_)));
    }

    #[test]
    fn what_is_released_or_ones_own_is_taken_at_once() {
        for found in [Row { released: true, ..row("a", 4, 5) }, row("b", 4, 5)] {
            let mut lease = lease("b");
            lease.looked(s(0), s(0), Some(found.clone()));
            let Step::Claim(claim) = lease.next(s(0), None) else { panic!("it is free") };
            assert_eq!(claim, Claim { from: Some(found), epoch: 5 });
        }
    }

    #[test]
    fn a_claim_without_an_answer_is_looked_up() {
        for taken in [true, false] {
            let mut lease = lease("b");
            lease.looked(s(0), s(0), Some(Row { released: true, ..row("a", 4, 5) }));
            let Step::Claim(claim) = lease.next(s(0), None) else { panic!("it is free") };
            lease.claiming(claim, s(0));
            lease.disconnected();
            assert_eq!(lease.next(s(3), None), Step::Look);
            lease.looked(s(3), s(3), Some(row(if taken { "b" } else { "c" }, 5, 6)));
            assert_eq!(lease.epoch(), taken.then_some(5));
            assert_eq!(lease.deadline(), taken.then_some(s(9)), "from the start of the claim");
        }
    }

    #[test]
    fn a_main_thread_that_hangs_is_not_renewed_for() {
        let mut lease = holder();
        lease.renewing(s(20));
        assert_eq!(lease.next(s(29), Some(s(0))), Step::Renew(1));
        assert_eq!(lease.next(s(30), Some(s(0))), Step::Wait(s(31)));
        assert_eq!(lease.next(s(31), Some(s(31))), Step::Renew(1));
    }

    #[test]
    fn who_is_not_renewed_looks_who_has_it() {
        let mut lease = holder();
        lease.renewed(s(1), false);
        assert_eq!(lease.next(s(1), None), Step::Look);
        lease.looked(s(1), s(1), Some(row("b", 2, 1)));
        assert_eq!(lease.standing(), &Standing::Lost(Some(row("b", 2, 1))));
        assert_eq!((lease.deadline(), lease.next(s(1), None)), (None, Step::Done));
    }

    #[test]
    fn past_the_deadline_it_goes_on_if_nobody_took_it() {
        let mut lease = holder();
        lease.disconnected();
        assert_eq!(lease.next(s(60), None), Step::Renew(1));
        lease.renewing(s(60));
        lease.renewed(s(60), true);
        assert_eq!(lease.deadline(), Some(s(69)));
    }

    #[test]
    fn who_retires_serves_nobody_and_keeps_others_from_it() {
        let mut lease = holder();
        lease.retire();
        assert_eq!(lease.deadline(), None);
        assert_eq!(lease.next(s(1), None), Step::Renew(1));
        lease.release();
        assert_eq!(lease.next(s(1), None), Step::Release(1));
        lease.gave_up();
        assert_eq!(lease.standing(), &Standing::Released);
    }
}
