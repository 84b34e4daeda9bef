//! The thread that does what is decided: it asks the lease and the shipping what to do, says it to the database, and hands the answer in.
//!
//! One statement at a time. Making a directory ready takes a connection of its own and goes on beside, since the lease is to be renewed
//! meanwhile.

use crate::clock;
use crate::database::{self, Connection, Database, Sent};
use crate::directory::{Directory, Verdict};
use crate::error::Error;
use crate::lease::{Lease, Row, Standing, Step, Terms};
use crate::shared::{Role, Shared, Wish};
use crate::shipping::{self, Batch, Place, Shipping};
use crate::sink::{Feed, Told};
use crate::statements as sql;
use crate::unsent::Unsent;
use futures_util::TryStreamExt;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// From one attempt to connect to the next at first, and after many.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// After something that is tried again on the same connection.
const PAUSE: Duration = Duration::from_millis(200);

/// A directory that was made ready.
struct Ready {
    directory: Directory,
    set_aside: Option<PathBuf>,
    restored: bool,
}

type Making = JoinHandle<Result<Ready, (Directory, Error)>>;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    database: Arc<Database>,
    lease: Lease,
    /// Not there while it is made ready.
    directory: Option<Directory>,
    making: Option<Making>,
    is_ready: bool,
    /// Whether it was ever known how the lease stands.
    has_looked: bool,
    shipping: Shipping,
    feed: Option<Arc<Feed>>,
    /// What is still to be read of the attached journal.
    unsent: Unsent,
    held: BTreeSet<u32>,
    /// A place that is not copied yet, and when it was written.
    behind: Option<(Place, Duration)>,
    vacuum: Option<JoinHandle<()>>,
    said_fsync: bool,
}

/// Why a connection is of no more use.
enum Ended {
    /// It is lost, or refuses.
    Failed(Error),
    /// This node can never have the lease as things are.
    Hopeless(Error),
    /// There is nothing more to do.
    Done,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Ended {
        Ended::Failed(error)
    }
}

impl Driver {
    pub fn new(shared: Arc<Shared>, database: Database, directory: Directory, terms: Terms) -> Driver {
        let unsent = Unsent::new(directory.path());
        Driver {
            shared,
            lease: Lease::new(directory.node(), terms),
            database: Arc::new(database),
            directory: Some(directory),
            making: None,
            is_ready: false,
            has_looked: false,
            shipping: Shipping::default(),
            feed: None,
            unsent,
            held: BTreeSet::new(),
            behind: None,
            vacuum: None,
            said_fsync: false,
        }
    }

    pub fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => {
                let shared = Arc::clone(&self.shared);
                let work = AssertUnwindSafe(|| {
                    runtime.block_on(async {
                        tokio::select! {
                            () = self.work() => {}
                            () = shared.stop.notified() => {}
                        }
                    });
                });
                // It was said when it happened.
                if catch_unwind(work).is_err() {
                    let source = std::io::Error::other("its thread has panicked, which is a bug in Enjamb");
                    self.fail(&Error::System { what: "the replica has ended", source });
                }
            }
            Err(source) => self.fail(&Error::System { what: "cannot wait for the database", source }),
        }
        self.shared.permit(None);
    }

    fn fail(&self, error: &Error) {
        let reason = error.to_string();
        tracing::error!("{reason}");
        self.shared.permit(None);
        self.shared.change(|state| {
            (state.role, state.reason, state.connected) = (Role::Failed, Some(reason), false)
        });
    }

    async fn work(&mut self) {
        let (mut is_said, mut retry) = (false, RETRY.0);
        loop {
            let ended = match self.database.connect().await {
                Ok((connection, found)) => {
                    retry = RETRY.0;
                    if found.fsync_is_off && !std::mem::replace(&mut self.said_fsync, true) {
                        self.shared.warn(
                            "the database's fsync is off: what is copied there does not survive its machine's death. Set fsync = on".into(),
                        );
                    }
                    if std::mem::take(&mut is_said) {
                        tracing::info!("the database is back");
                    }
                    self.shared.change(|state| (state.connected, state.reason) = (true, None));
                    let Err(ended) = self.converse(&connection).await;
                    ended
                }
                Err(error) => Ended::Failed(error),
            };
            let error = match ended {
                Ended::Failed(error) => error,
                Ended::Hopeless(error) => return self.fail(&error),
                Ended::Done => break,
            };
            // What refuses at the start is the admin's to mend; who serves goes on trying.
            if error.is_final() && !self.is_ready && self.lease.epoch().is_none() && !self.has_looked {
                return self.fail(&error);
            }
            self.lease.disconnected();
            self.shipping.disconnected();
            self.hear();
            let text = error.to_string();
            if !std::mem::replace(&mut is_said, true) {
                tracing::warn!("the database cannot be used, and is tried again: {text}");
            }
            self.shared.change(|state| (state.connected, state.reason) = (false, Some(text)));
            if self.shared.wish() == Wish::Release {
                self.lease.retire();
                if self.lease.epoch().is_none() {
                    self.lease.release();
                    if self.lease.next(clock::now(), None) == Step::Done {
                        self.publish();
                        break;
                    }
                }
            }
            sleep(retry).await;
            retry = (retry * 2).min(RETRY.1);
        }
    }

    /// One connection, from its beginning to its end.
    async fn converse(&mut self, connection: &Connection) -> Result<std::convert::Infallible, Ended> {
        loop {
            // In this order: what was told before the owner gave up is copied.
            let wish = self.shared.wish();
            self.hear();
            if wish == Wish::Release {
                self.lease.retire();
                if !self.is_ready || self.feed.is_none() || self.shipping.is_done() {
                    self.lease.release();
                }
            }
            self.publish();
            let now = clock::now();
            match self.lease.next(now, self.shared.turned()) {
                Step::Done => return Err(Ended::Done),
                Step::Look => {
                    let row = connection.look().await?;
                    self.lease.looked(now, clock::now(), row);
                    self.has_looked = true;
                }
                Step::Claim(claim) => self.claim(connection, claim, now).await?,
                Step::Renew(epoch) => {
                    self.lease.renewing(now);
                    let still = connection.renew(epoch).await?;
                    self.lease.renewed(now, still);
                }
                Step::Release(epoch) => {
                    connection.release(epoch).await?;
                    self.lease.gave_up();
                }
                Step::Wait(until) => match self.lease.epoch() {
                    Some(epoch) if self.is_ready => self.ship(connection, epoch, until).await?,
                    Some(epoch) => self.make_ready(epoch, until).await?,
                    None => self.rest(until).await,
                },
            }
            if connection.is_closed() {
                return Err(Ended::Failed(Error::Away("the connection was closed".into())));
            }
        }
    }

    /// Until that time, or until the owner has something.
    async fn rest(&self, until: Duration) {
        tokio::select! {
            () = sleep(until.saturating_sub(clock::now())) => {}
            () = self.shared.more.notified() => {}
        }
    }

    // The lease ---------------------------------------------------------------------------------------------------------

    async fn claim(
        &mut self,
        connection: &Connection,
        claim: crate::lease::Claim,
        now: Duration,
    ) -> Result<(), Ended> {
        if let Some(directory) = &mut self.directory {
            directory.intend(claim.from.as_ref()).map_err(Ended::Hopeless)?;
        }
        self.lease.claiming(claim.clone(), now);
        let claimed = connection.claim(&claim).await;
        match claimed.map_err(|e| if e.is_final() { Ended::Hopeless(e) } else { Ended::Failed(e) })? {
            Some(taken) => self.lease.claimed(taken),
            None => {
                // The node that had it was stopped in the middle of a statement.
                self.lease.not_claimed();
                if let Some(row) = &claim.from {
                    let ended = connection.terminate(&database::application(&row.holder)).await?;
                    tracing::warn!(
                        "{ended} connections of {:?} to the database were in the way and are ended",
                        row.name
                    );
                }
            }
        }
        Ok(())
    }

    /// Tells the owner how all stands.
    fn publish(&mut self) {
        let serves = self.is_ready.then(|| self.lease.deadline()).flatten();
        self.shared.permit(serves);
        let known = |row: &Row| (Some(row.name.clone()).filter(|name| !name.is_empty()), row.epoch);
        let before = self.shared.role();
        if before == Role::Failed {
            return; // and the lease is being given up
        }
        let (role, holder, epoch) = match self.lease.standing() {
            Standing::Unknown => return,
            Standing::Waiting(row) => (Role::Waiting, known(row).0, row.epoch),
            Standing::Holding { epoch, .. } => {
                let role = if self.is_ready { Role::Holder } else { Role::Taking };
                (role, Some(self.database.names().name.clone()), *epoch)
            }
            Standing::Lost(row) => {
                let (holder, epoch) = row.as_ref().map(known).unwrap_or_default();
                (Role::Lost, holder, epoch)
            }
            Standing::Released => (Role::Released, None, 0),
        };
        if role != before {
            let by = holder.as_deref().unwrap_or("nobody");
            match role {
                Role::Lost => tracing::error!("the lease is lost: {by:?} has it now (epoch {epoch})"),
                Role::Waiting => tracing::info!("{by:?} has the lease (epoch {epoch}): waiting"),
                _ => tracing::info!("the role of this node is {:?} now (epoch {epoch})", role.name()),
            }
        }
        self.shared.change(|state| {
            (state.role, state.holder) = (role, holder);
            if role != Role::Released {
                state.epoch = epoch;
            }
        });
    }

    // The directory -----------------------------------------------------------------------------------------------------

    async fn make_ready(&mut self, epoch: u64, until: Duration) -> Result<(), Ended> {
        if let Some(directory) = self.directory.take() {
            let before = match self.lease.standing() {
                Standing::Holding { before, .. } => before.clone(),
                _ => None,
            };
            let database = Arc::clone(&self.database);
            self.making = Some(tokio::spawn(make_ready(database, directory, before, epoch)));
        }
        let Some(making) = &mut self.making else { return Ok(()) };
        let made = tokio::select! {
            made = making => made,
            () = sleep(until.saturating_sub(clock::now())) => return Ok(()),
            () = self.shared.more.notified() => return Ok(()),
        };
        self.making = None;
        match made {
            Ok(Ok(ready)) => {
                self.directory = Some(ready.directory);
                self.is_ready = true;
                if let Some(aside) = &ready.set_aside {
                    self.shared.warn(format!(
                        "what was in the journal's directory is older than what the database has, or of another server: it is set \
                         aside as {aside:?}, and may be removed"
                    ));
                }
                self.shared
                    .change(|state| (state.set_aside, state.restored) = (ready.set_aside, ready.restored));
                Ok(())
            }
            Ok(Err((directory, error))) => {
                self.directory = Some(directory);
                if error.is_final() {
                    // Another node may be able to.
                    self.fail(&error);
                    self.lease.release();
                    return Ok(());
                }
                tracing::warn!(
                    "the journal's directory could not be made ready, and is tried again: {error}"
                );
                sleep(PAUSE).await;
                Ok(())
            }
            Err(_) => {
                let source = std::io::Error::other("it has panicked");
                self.fail(&Error::System { what: "the journal's directory cannot be made ready", source });
                Err(Ended::Done)
            }
        }
    }

    // The copy ----------------------------------------------------------------------------------------------------------

    /// Takes in what the journal has told.
    fn hear(&mut self) {
        let feed = self.shared.feed();
        if let Some(feed) = &feed
            && !self.feed.as_ref().is_some_and(|before| Arc::ptr_eq(before, feed))
        {
            (self.shipping, self.behind) = (Shipping::default(), None);
            self.unsent = Unsent::new(self.unsent.dir());
            self.held.clear();
            self.feed = Some(Arc::clone(feed));
        }
        let Some(feed) = &self.feed else { return };
        for told in feed.take() {
            match told {
                Told::Begun(segment, file) => {
                    self.unsent.hold(segment, file);
                    self.held.insert(segment);
                    self.shipping.begun(segment);
                }
                Told::Written(end, position) => self.shipping.written(end, position),
                Told::Attached => {
                    self.shipping.attached();
                    for (segment, len) in self.unsent.left() {
                        self.shipping.left(segment, len);
                        self.held.insert(segment);
                    }
                }
                Told::Dead(segment) => self.shipping.dead(segment),
            }
        }
        self.measure();
    }

    /// Lets go of what is copied.
    fn let_go(&mut self) {
        let copied: Vec<u32> =
            self.held.iter().copied().filter(|segment| !self.shipping.wants(*segment)).collect();
        for segment in copied {
            self.held.remove(&segment);
            self.unsent.release(segment);
        }
    }

    /// Says how far the copy is.
    fn measure(&mut self) {
        let Some(feed) = &self.feed else { return };
        let (durable, lag) = (self.shipping.durable(), self.shipping.lag());
        self.shared.lag.store(lag, Ordering::Release);
        if self.behind.is_some_and(|(place, _)| self.shipping.is_sent(place)) {
            self.behind = None;
        }
        if self.behind.is_none() && lag > 0 {
            self.behind = self.shipping.head().map(|place| (place, clock::now()));
        }
        let since = self.behind.map_or(0, |(_, since)| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        self.shared.behind_since.store(since, Ordering::Release);
        if feed.durable.swap(durable, Ordering::AcqRel) < durable {
            self.shared.tell();
        }
    }

    /// Does one thing for the copy, or waits.
    async fn ship(&mut self, connection: &Connection, epoch: u64, until: Duration) -> Result<(), Ended> {
        match self.shipping.next(clock::now()) {
            shipping::Step::Rest => self.rest(until).await,
            // Not woken by what the journal writes meanwhile: that is what the pause is for.
            shipping::Step::Wait(due) => sleep(due.min(until).saturating_sub(clock::now())).await,
            shipping::Step::Ask => match connection.tail(epoch).await? {
                Some(extents) => {
                    self.shipping.has(&extents);
                    self.let_go();
                    self.measure();
                }
                None => {
                    self.lease.fenced();
                    sleep(PAUSE).await;
                }
            },
            shipping::Step::Send(batch) => self.send(connection, epoch, batch).await?,
            shipping::Step::Cut { segment, end } => {
                connection.cut(epoch, segment, end).await?;
                self.shipping.cut(segment);
            }
            shipping::Step::Remove(segments) => {
                connection.remove(epoch, &segments).await?;
                self.shipping.removed(&segments);
                self.let_go();
                self.vacuum();
            }
        }
        Ok(())
    }

    async fn send(&mut self, connection: &Connection, epoch: u64, batch: Batch) -> Result<(), Ended> {
        let mut data = vec![0; usize::try_from(batch.len).unwrap_or(0)];
        if let Err(e) = self.unsent.read(batch.segment, &mut data, batch.offset) {
            if e.kind() == ErrorKind::NotFound && self.shipping.gone(batch.segment) {
                tracing::warn!(
                    "the database has forgotten what is of no more use here: it is behind until the rest is copied"
                );
                return Ok(());
            }
            let segment = batch.segment;
            tracing::error!(
                "segment {segment:08x} of the journal cannot be read, and so not copied: {e}. Check the disk"
            );
            sleep(PAUSE).await;
            return Ok(());
        }
        let began = clock::now();
        self.shipping.sending(batch, began);
        match connection.send(epoch, batch, &data).await? {
            Sent::Committed => {
                self.shipping.sent(batch);
                self.let_go();
                let latency = clock::now().saturating_sub(began);
                self.shared.change(|state| state.latency = Some(latency));
            }
            Sent::Unknown => {
                self.shipping.slow();
                self.shipping.disconnected();
                sleep(PAUSE).await;
            }
            Sent::Fenced => self.lease.fenced(),
        }
        self.measure();
        Ok(())
    }

    /// Has the space of what was removed used again, beside everything else.
    fn vacuum(&mut self) {
        if self.vacuum.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let database = Arc::clone(&self.database);
        self.vacuum = Some(tokio::spawn(async move {
            let Ok((client, task)) = database.plain().await else { return };
            if let Err(e) = client.batch_execute(sql::VACUUM).await {
                tracing::debug!("the table of batches was not vacuumed: {e}");
            }
            drop(client);
            let _ = task.await;
        }));
    }
}

async fn make_ready(
    database: Arc<Database>,
    mut directory: Directory,
    before: Option<Row>,
    epoch: u64,
) -> Result<Ready, (Directory, Error)> {
    match try_to_make_ready(&database, &mut directory, before.as_ref(), epoch).await {
        Ok((set_aside, restored)) => Ok(Ready { directory, set_aside, restored }),
        Err(error) => Err((directory, error)),
    }
}

async fn try_to_make_ready(
    database: &Database,
    directory: &mut Directory,
    before: Option<&Row>,
    epoch: u64,
) -> Result<(Option<PathBuf>, bool), Error> {
    let keep = match directory.verdict(before) {
        Verdict::Keep => true,
        Verdict::KeepIfWhole => is_whole(database, directory).await?,
        Verdict::Replace => false,
    };
    if keep {
        directory.settle(epoch)?;
        return Ok((None, false));
    }
    let mut made = directory.rebuild()?;
    let mut any = false;
    each_batch(database, |segment, offset, data| {
        any = true;
        made.write(segment, offset, data).map(|()| true)
    })
    .await?;
    Ok((directory.replace(made, epoch)?, any))
}

/// Whether the directory has all that the database has.
async fn is_whole(database: &Database, directory: &Directory) -> Result<bool, Error> {
    let certain = enjamb_journal::certain(directory.path()).unwrap_or_default();
    let mut whole = true;
    each_batch(database, |segment, offset, data| {
        // What is missing before that was removed, since it was of no more use.
        let removed = certain.is_some_and(|(last, _)| segment < last) && !directory.has_segment(segment);
        whole = removed || directory.has(segment, offset, data);
        Ok(whole)
    })
    .await?;
    Ok(whole)
}

/// Hands over all batches in order, as long as `each` says so.
async fn each_batch(
    database: &Database,
    mut each: impl FnMut(u32, u64, &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    let (client, task) = database.plain().await?;
    let rows = database::read(&client, &database.names().cluster).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(|e| Error::Away(crate::url::describe(&e)))? {
        let (segment, offset, data) = database::batch(&row)?;
        if !each(segment, offset, data)? {
            break;
        }
    }
    task.abort();
    Ok(())
}
