//! The replica as its owner sees it: started, asked how it stands, attached to the journal, given up.

use crate::clock;
use crate::database::{Database, Names};
use crate::directory::{self, Directory};
use crate::driver::Driver;
use crate::error::Error;
use crate::lease::Terms;
use crate::shared::{Role, Shared, State, Wish};
use crate::sink::{Copy, Feed, Told};
use crate::tls;
use crate::url::Url;
use enjamb_journal::Journal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// However long the lease is, no batch is waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a replica is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the database is: [`Url::parse`].
    pub url: String,
    /// Which nodes stand in for each other: those with the same name in the same database.
    pub cluster: String,
    /// What this node is called when others are told of it. `None`: as the machine.
    pub node: Option<String>,
    /// The journal's directory. The one above must be there.
    pub directory: PathBuf,
    /// How long a node must have been silent before another takes over: [`Terms::new`].
    pub lease: Duration,
}

/// A node of a cluster. Dropping it ends its thread, and gives nothing up.
pub struct Replica {
    shared: Arc<Shared>,
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// How far the copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are not copied yet.
    pub lag: u64,
    /// How long there have been any.
    pub behind: Option<Duration>,
}

impl Replica {
    /// Starts one: it connects, and takes the lease as soon as it may. Nothing is waited for. `tell` is called on the
    /// other thread when the state has changed, or more is copied.
    ///
    /// # Errors
    /// What is wrong with the options, [`Error::InUse`] for the directory, or that there are no threads.
    pub fn start(options: &Options, tell: impl Fn() + Send + Sync + 'static) -> Result<Replica, Error> {
        let url = Url::parse(&options.url)?;
        let usable = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_control());
        if !usable(&options.cluster) || options.node.as_deref().is_some_and(|node| !usable(node)) {
            return Err(Error::Url {
                what: "the name of the cluster or of the node is empty, or not one line".into(),
            });
        }
        let tls = tls::connector(&url)?;
        let directory = Directory::open(&options.directory, &options.cluster)?;
        let name = options.node.clone().unwrap_or_else(directory::host_name);
        let shared = Arc::new(Shared::new(Box::new(tell)));
        let terms = Terms::new(options.lease);
        let names = Names { cluster: options.cluster.clone(), node: directory.node().to_owned(), name };
        let database = Database::new(url.configs, tls, names, (terms.lease / 4).min(PATIENCE));
        let driver = Driver::new(Arc::clone(&shared), database, directory, terms);
        let failed = |source| Error::System { what: "cannot start the replica's thread", source };
        let thread = enjamb_journal::thread::spawn("enjamb-replica", move || driver.run());
        let directory = options.directory.clone();
        Ok(Replica { shared, directory, thread: Some(thread.map_err(failed)?) })
    }

    /// How all stands. Warnings are told once.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Whether the state has changed since this was asked last: more often only more is copied.
    pub fn has_news(&self) -> bool {
        self.shared.has_news()
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        self.shared.role()
    }

    /// How far the copy is.
    pub fn progress(&self) -> Progress {
        let since = self.shared.behind_since.load(Ordering::Acquire);
        let behind = (since > 0).then(|| clock::now().saturating_sub(Duration::from_nanos(since)));
        Progress { lag: self.shared.lag.load(Ordering::Acquire), behind }
    }

    /// Whether this node may serve now. One look at a clock.
    pub fn permitted(&self) -> bool {
        self.shared.permitted()
    }

    /// How long it may without hearing from the database.
    pub fn left(&self) -> Duration {
        self.shared.left()
    }

    /// The main loop turned. From the first time on nothing is renewed when it has not for half a minute.
    pub fn turned(&self) {
        self.shared.turn();
    }

    /// Waits until the role is another than that, at most so long.
    pub fn wait(&self, role: Role, most: Duration) {
        self.shared.wait(most, |now| now != role);
    }

    /// Has all of that journal copied, from now on. What [`Replica::durable`] says is of it.
    ///
    /// # Errors
    /// [`enjamb_journal::Error::Io`] if a segment cannot be opened.
    pub fn attach(&self, journal: &mut Journal) -> Result<(), enjamb_journal::Error> {
        let feed = Arc::new(Feed::new(Arc::clone(&self.shared.more)));
        journal.attach(Box::new(Copy { feed: Arc::clone(&feed), dir: self.directory.clone() }))?;
        feed.tell(Told::Attached);
        self.shared.attach(feed);
        Ok(())
    }

    /// The position up to which the attached journal is copied; `None` if there is none.
    pub fn durable(&self) -> Option<u64> {
        self.shared.durable()
    }

    /// Gives the lease up when everything is copied, in the background. Nothing is permitted from now on.
    pub fn hand_over(&self) {
        self.shared.retire();
        self.shared.want(Wish::Release);
    }

    /// The same, and waits for it, at most so long. Whether that was long enough.
    pub fn release(&self, most: Duration) -> bool {
        self.hand_over();
        self.shared.wait(most, Role::is_final);
        self.role() == Role::Released
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shared.retire();
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
