//! The background thread: whatever may wait for the disk and is not a write.
//!
//! It syncs files, removes those that are not needed any more, and creates the next one. It knows nothing of records. To the
//! rest it is a [`Sink`]: what has been synced outlasts the machine.
//!
//! Jobs are done in the order in which they were sent, and removals rely on it: what a segment held has been copied to
//! a later one, whose sync was sent before. If that sync fails, the operating system may have dropped the bytes although
//! a later sync succeeds. So the segment counts as failed until everything live in it has been copied once more and it is
//! removed itself; until then nothing else is removed, and [`Background::durable`] stands still.
//!
//! Before segments are removed the [mark](crate::mark) says so, on the disk: then it does not matter in which order, nor whether, the
//! removals get there. It also goes on whenever a segment is sealed, so that little is doubtful after the machine's death.

use crate::error::Error;
use crate::files::{Files, OpenFile};
use crate::mark::{MOST_NAMED, Mark, Marks};
use crate::segment;
use crate::sink::Sink;
use crate::thread;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;

pub(crate) enum Job {
    /// Sync these directories before anything is called durable: in one is ours, in the others what leads there.
    Holders(Vec<PathBuf>),
    /// Sync the segments that were found when the journal was opened, as a killed process may not have got round to it. Then
    /// everything before the head is durable.
    Found(Vec<u32>),
    /// Sync the segment; then everything up to that offset in it is durable, which is that position. A sealed one ends there.
    Sync { segment: u32, file: Arc<dyn OpenFile>, offset: u64, position: u64, sealed: bool },
    /// Remove the segment.
    Remove(u32),
    /// Create the segment's empty file and send it back.
    Create(u32, mpsc::Sender<Arc<dyn OpenFile>>),
}

/// A segment whose sync has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub segment: u32,
    /// No other one was failed at that time.
    pub first: bool,
}

/// What the background thread has to tell.
#[derive(Default)]
pub(crate) struct News {
    pub error: Option<Error>,
    pub failed: Vec<Failed>,
}

#[derive(Default)]
struct Shared {
    durable: AtomicU64,
    news: Mutex<News>,
    on_durable: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Shared {
    fn news(&self) -> MutexGuard<'_, News> {
        // Nobody panics while holding it; and if so, what is in it is still true.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of what the owner has not asked for yet only the first is kept; all of it is logged.
    fn tell(&self, e: Error) {
        tracing::error!("{e}");
        self.news().error.get_or_insert(e);
    }
}

pub(crate) struct Background {
    jobs: Option<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    head: Option<Head>,
}

/// The segment that was begun last.
struct Head {
    segment: u32,
    file: Arc<dyn OpenFile>,
    end: u64,
    position: u64,
}

impl Background {
    /// What is found of this directory counts before segment `first`, which is the head.
    pub fn start(
        files: Arc<dyn Files>,
        dir: &Path,
        first: u32,
        marks: Marks,
        failed: BTreeSet<u32>,
        gone: Vec<u32>,
    ) -> Result<Background, Error> {
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let mut worker = Worker {
            files,
            dir: dir.to_owned(),
            shared: shared.clone(),
            named: None,
            first,
            failed,
            holders: Vec::new(),
            found: false,
            doomed: gone,
            removed: Vec::new(),
            // The mark that was read may not be on the disk.
            named_gone: Vec::new(),
            reached: Reached::default(),
            marks,
        };
        let thread = thread::spawn("enjamb-journal", move || worker.run(&queue));
        let thread = thread.map_err(Error::io("start a thread for", dir))?;
        Ok(Background { jobs: Some(jobs), shared, thread: Some(thread), head: None })
    }

    pub fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this sender.
            let _ = jobs.send(job);
        }
    }

    /// Has a segment's empty file created, which comes that way.
    pub fn create(&self, segment: u32) -> mpsc::Receiver<Arc<dyn OpenFile>> {
        let (send, spare) = mpsc::channel();
        self.send(Job::Create(segment, send));
        spare
    }

    fn sync_head(&self, sealed: bool) {
        if let Some(Head { segment, file, end, position }) = &self.head {
            let (segment, offset, position) = (*segment, *end, *position);
            self.send(Job::Sync { segment, file: Arc::clone(file), offset, position, sealed });
        }
    }

    pub fn on_durable(&self, f: Box<dyn Fn() + Send + Sync>) {
        let _ = self.shared.on_durable.set(f);
    }

    pub fn news(&self) -> News {
        // Not worth waiting for: there will be another commit.
        self.shared.news.try_lock().map(|mut n| std::mem::take(&mut *n)).unwrap_or_default()
    }
}

impl Sink for Background {
    fn begun(&mut self, segment: u32, file: &Arc<dyn OpenFile>) {
        self.sync_head(true);
        let position = self.head.as_ref().map_or(0, |head| head.position);
        self.head = Some(Head { segment, file: Arc::clone(file), end: 0, position });
    }

    fn written(&mut self, end: u64, position: u64) {
        if let Some(head) = &mut self.head {
            (head.end, head.position) = (end, position);
        }
    }

    fn sync(&self) {
        self.sync_head(false);
    }

    fn dead(&mut self, segment: u32) {
        self.send(Job::Remove(segment));
    }

    fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }
}

impl Drop for Background {
    /// Syncs what was written, and waits until everything that was sent has been done.
    fn drop(&mut self) {
        self.sync_head(true);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    files: Arc<dyn Files>,
    dir: PathBuf,
    /// The segment that was begun when the journal was opened.
    first: u32,
    shared: Arc<Shared>,
    /// The segment whose name is known to be durable.
    named: Option<u32>,
    failed: BTreeSet<u32>,
    /// Directories whose sync our own one's name still waits for.
    holders: Vec<PathBuf>,
    /// Whether it is on the disk which names were found, and which were taken away, when the journal was opened.
    found: bool,
    /// To be removed.
    doomed: Vec<u32>,
    /// Removed, but perhaps not on the disk.
    removed: Vec<u32>,
    /// What the mark says of both.
    named_gone: Vec<u32>,
    /// Durable up to here, but for what is in failed segments.
    reached: Reached,
    marks: Marks,
}

/// A place in the journal, counted in both ways.
#[derive(Clone, Copy, Default)]
struct Reached {
    position: u64,
    segment: u32,
    offset: u64,
}

impl Worker {
    fn run(&mut self, queue: &mpsc::Receiver<Job>) {
        while let Ok(mut job) = queue.recv() {
            let mut next = None;
            // One sync serves all requests for the same file that have come in meanwhile.
            while let Job::Sync { segment, offset, position, sealed, .. } = &mut job {
                match queue.try_recv() {
                    Ok(Job::Sync { segment: s, offset: o, position: p, sealed: e, .. }) if s == *segment => {
                        (*offset, *position, *sealed) = (o, p, e);
                    }
                    other => {
                        next = other.ok();
                        break;
                    }
                }
            }
            self.act(job);
            if let Some(job) = next {
                self.act(job);
            }
        }
    }

    fn act(&mut self, job: Job) {
        match job {
            Job::Holders(holders) => {
                self.holders = holders;
                self.sync_holders();
            }
            Job::Found(segments) => {
                if let Err(e) = self.marks.confirm() {
                    self.shared.tell(e);
                }
                for id in segments {
                    let path = segment::path(&self.dir, id);
                    let synced = self.files.open(&path).and_then(|f| f.sync());
                    self.settle(id, synced.map_err(Error::io("sync", &path)));
                }
                self.reached.segment = self.first;
                if self.failed.is_empty() {
                    self.mark();
                }
                self.remove();
            }
            Job::Sync { segment, file, offset, position, sealed } => {
                self.sync_holders();
                let mut synced = file.sync().map_err(Error::io("sync", &segment::path(&self.dir, segment)));
                if synced.is_ok() && self.named != Some(segment) {
                    synced = self.files.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir));
                    self.named = synced.is_ok().then_some(segment);
                }
                if position >= self.reached.position {
                    self.reached = Reached { position, segment, offset };
                }
                self.settle(segment, synced);
                if sealed && self.failed.is_empty() {
                    self.mark();
                }
                self.remove();
            }
            Job::Remove(id) => {
                self.doomed.push(id);
                self.remove();
            }
            Job::Create(id, to) => {
                // The owner may have made it meanwhile, so it must be new. It also makes it if it gets none from here.
                if let Ok(file) = self.files.create(&segment::path(&self.dir, id), true) {
                    let _ = to.send(file);
                }
            }
        }
        if self.failed.is_empty() && self.holders.is_empty() {
            let reached = self.reached.position;
            let before = self.shared.durable.fetch_max(reached, Ordering::Release);
            if before < reached
                && let Some(tell) = self.shared.on_durable.get()
            {
                tell();
            }
        }
    }

    fn sync_holders(&mut self) {
        while let Some(dir) = self.holders.last() {
            if let Err(e) = self.files.sync_dir(dir) {
                // Trying again would not help against missing rights, and acks must not wait for ever.
                let hopeless = e.kind() == ErrorKind::PermissionDenied;
                self.shared.tell(Error::io("sync", dir)(e));
                if !hopeless {
                    return;
                }
            }
            self.holders.pop();
        }
    }

    fn settle(&mut self, segment: u32, synced: Result<(), Error>) {
        let Err(e) = synced else { return };
        self.shared.tell(e);
        let first = self.failed.is_empty();
        if self.failed.insert(segment) {
            self.shared.news().failed.push(Failed { segment, first });
            // The next process would not hear of it.
            let boot = self.files.boot().unwrap_or(0);
            if let Err(e) = self.marks.fail(&*self.files, boot, self.failed.iter().copied()) {
                self.shared.tell(e);
            }
        }
    }

    fn sync_names(&self) -> Result<(), Error> {
        self.files.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    /// Says on the disk that everything up to here is durable, but for what is not needed. Returns whether it does.
    fn mark(&mut self) -> bool {
        // Names have to be there, and those that were taken away gone, before the mark says that all is well.
        if !self.found || !self.removed.is_empty() {
            match self.sync_names() {
                Ok(()) => {
                    self.found = true;
                    self.removed.clear();
                }
                // Those that were removed since are named.
                Err(_) if self.found => {}
                Err(e) => {
                    self.shared.tell(e);
                    return false;
                }
            }
        }
        let gone: Vec<u32> = self.removed.iter().chain(&self.doomed).copied().take(MOST_NAMED).collect();
        // What has failed has to be among those that are not needed.
        if !self.failed.iter().all(|f| gone.contains(f)) {
            return false;
        }
        let Reached { segment, offset, .. } = self.reached;
        let mark = Mark { segment, offset, gone: gone.clone(), ..Mark::default() };
        match self.marks.set(&*self.files, mark) {
            Ok(()) => {
                self.named_gone = gone;
                true
            }
            Err(e) => {
                self.shared.tell(e);
                false
            }
        }
    }

    /// Removes what may be removed. Of two segments the first may hold records that only the second declares dead, so
    /// the mark names both before one goes.
    fn remove(&mut self) {
        if self.doomed.is_empty() || !self.failed.iter().all(|f| self.doomed.contains(f)) {
            return;
        }
        let news = !self.failed.is_empty() || self.doomed.iter().any(|id| !self.named_gone.contains(id));
        if news && !self.mark() {
            return;
        }
        self.failed.clear();
        let (named, rest) = self.doomed.drain(..).partition(|id| self.named_gone.contains(id));
        let (named, rest): (Vec<u32>, Vec<u32>) = (named, rest);
        for id in named {
            let path = segment::path(&self.dir, id);
            match self.files.remove(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    self.shared.tell(Error::io("remove", &path)(e));
                    self.doomed.push(id);
                }
                _ => self.removed.push(id),
            }
        }
        self.doomed.extend(rest);
        match self.sync_names() {
            Ok(()) => self.removed.clear(),
            Err(e) => self.shared.tell(e),
        }
    }
}
