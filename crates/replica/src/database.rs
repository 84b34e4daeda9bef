//! A connection to the database: statements go out one at a time, and what is said of them comes back as a value.
//!
//! It decides nothing. A statement that is not answered in time ends the connection, since nothing else says when it will.

use crate::error::Error;
use crate::lease::{Claim, Row};
use crate::shipping::{Batch, Extent};
use crate::statements as sql;
use crate::url::describe;
use futures_util::future::poll_fn;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, RowStream, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The oldest server that knows all that is said here.
const OLDEST: i32 = 120_000;
/// An answer takes at most so long ...
const LIMIT: Duration = Duration::from_secs(10);
/// ... and when a connection is made.
const ANSWER: Duration = Duration::from_secs(2);

/// How a connection is made.
pub(crate) struct Database {
    configs: Vec<Config>,
    tls: MakeRustlsConnect,
    names: Names,
    /// A batch that takes longer is cancelled: it may wait for a replica of the database that is away, and a renewal waits behind it.
    patience: Duration,
}

/// Whose connection it is.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub cluster: String,
    /// This node, as no other is.
    pub node: String,
    /// What it is called.
    pub name: String,
}

impl Names {
    /// What stands in the lease's row.
    fn holder(&self) -> String {
        format!("{}#{}", self.name, self.node)
    }
}

/// What a node's connection is called in the database. Those that are only for reading, or for VACUUM, are called otherwise.
pub(crate) fn application(node: &str) -> String {
    format!("enjamb {node}")
}

/// A connection.
pub(crate) struct Connection {
    client: Client,
    tls: MakeRustlsConnect,
    cluster: String,
    holder: String,
    node: String,
    patience: Duration,
    /// How many warnings have come that may be about a commit.
    warnings: Arc<AtomicU64>,
    task: JoinHandle<()>,
    prepared: Prepared,
}

struct Prepared {
    look: Statement,
    claim_first: Statement,
    claim: Statement,
    renew: Statement,
    confirm: Statement,
    release: Statement,
    send: Statement,
    ask: Statement,
    tail: Statement,
    remove: Statement,
    cut: [Statement; 2],
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is there, and counts.
    Committed,
    /// Whether it is there, or counts, has to be asked.
    Unknown,
    /// This node does not have the lease any more.
    Fenced,
}

/// What is to be said once of a database.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub fsync_is_off: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn away(error: &tokio_postgres::Error) -> Error {
    Error::Away(describe(error))
}

async fn within<T>(
    limit: Duration,
    what: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match timeout(limit, what).await {
        Ok(result) => result.map_err(|e| away(&e)),
        Err(_) => {
            Err(Error::Away(format!("the database has not answered within {} seconds", limit.as_secs())))
        }
    }
}

/// Numbers of the database are signed.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl Database {
    pub fn new(configs: Vec<Config>, tls: MakeRustlsConnect, names: Names, patience: Duration) -> Database {
        Database { configs, tls, names, patience }
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// A connection by itself, for what may take long.
    pub async fn plain(&self) -> Result<(Client, JoinHandle<()>), Error> {
        self.open(&format!("enjamb-beside {}", self.names.node), None).await
    }

    async fn open(
        &self,
        application: &str,
        warnings: Option<Arc<AtomicU64>>,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let mut connected = Err(Error::Away("the replica's URL names no host".into()));
        for config in &self.configs {
            let mut config = config.clone();
            config.application_name(application);
            // What goes beyond connecting is a few words.
            let limit = config.get_connect_timeout().copied().unwrap_or(ANSWER) + ANSWER;
            connected = match timeout(limit, config.connect(self.tls.clone())).await {
                Ok(connected) => connected.map_err(|e| refusal(&e)),
                Err(_) => Err(Error::Away("the database cannot be reached: no answer".into())),
            };
            if connected.is_ok() {
                break;
            }
        }
        let (client, mut connection) = connected?;
        let task = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let (AsyncMessage::Notice(notice), Some(warnings)) = (message, &warnings) {
                    // Among others that a commit "might not have been replicated", in whatever language.
                    if *notice.code() == SqlState::WARNING {
                        warnings.fetch_add(1, Ordering::AcqRel);
                        tracing::warn!("the database warns: {}", notice.message());
                    }
                }
            }
        });
        let set = within(LIMIT, client.batch_execute(sql::SESSION)).await;
        if let Err(e) = set {
            task.abort();
            return Err(e);
        }
        Ok((client, task))
    }

    /// Connects, sees to it that the tables are there, and prepares what is said most.
    pub async fn connect(&self) -> Result<(Connection, Found), Error> {
        let warnings = Arc::<AtomicU64>::default();
        let (client, task) = self.open(&application(&self.names.node), Some(Arc::clone(&warnings))).await?;
        let prepared = match self.prepare(&client).await {
            Ok(prepared) => prepared,
            Err(e) => {
                task.abort();
                return Err(e);
            }
        };
        let (prepared, found) = prepared;
        let (tls, cluster, node) = (self.tls.clone(), self.names.cluster.clone(), self.names.node.clone());
        let (holder, patience) = (self.names.holder(), self.patience);
        let connection =
            Connection { client, tls, cluster, holder, node, patience, warnings, task, prepared };
        Ok((connection, found))
    }

    async fn prepare(&self, client: &Client) -> Result<(Prepared, Found), Error> {
        let version =
            within(LIMIT, client.query_one("SELECT current_setting('server_version_num')::integer", &[]))
                .await?;
        if version.try_get::<_, i32>(0).unwrap_or(0) < OLDEST {
            return Err(Error::Refused(
                "the database is older than PostgreSQL 12. Install a later one".into(),
            ));
        }
        let tables = within(LIMIT, client.query_one(sql::TABLES, &[])).await?;
        let get = |column: usize| tables.try_get::<_, bool>(column).unwrap_or(false);
        let (lease, batch, fsync, standby) = (get(0), get(1), get(3), get(4));
        if standby {
            return Err(Error::Away("the database is a standby that cannot be written to".into()));
        }
        if !(lease && batch) {
            self.create(client).await?;
        } else if let Ok(Some(version)) = tables.try_get::<_, Option<String>>(2)
            && version != sql::VERSION
        {
            return Err(Error::Refused(format!(
                "the tables in the database are of another version ({version:?}, not {:?}): see docs/high-availability.md",
                sql::VERSION
            )));
        }
        let prepare = async |statement: &str| {
            let prepared = timeout(LIMIT, client.prepare(statement)).await;
            prepared
                .map_err(|_| Error::Away("the database has not answered".into()))?
                .map_err(|e| refusal(&e))
        };
        let confirm = sql::RENEW.split(" AND set_config").next().unwrap_or(sql::RENEW);
        let prepared = Prepared {
            look: prepare(sql::LOOK).await?,
            claim_first: prepare(sql::CLAIM_FIRST).await?,
            claim: prepare(sql::CLAIM).await?,
            renew: prepare(sql::RENEW).await?,
            confirm: prepare(confirm).await?,
            release: prepare(sql::RELEASE).await?,
            send: prepare(sql::SEND).await?,
            ask: prepare(sql::ASK).await?,
            tail: prepare(sql::TAIL).await?,
            remove: prepare(sql::REMOVE).await?,
            cut: [prepare(sql::CUT[0]).await?, prepare(sql::CUT[1]).await?],
        };
        Ok((prepared, Found { fsync_is_off: !fsync }))
    }

    async fn create(&self, client: &Client) -> Result<(), Error> {
        for statement in sql::CREATE {
            match timeout(LIMIT, client.batch_execute(statement)).await {
                Err(_) => return Err(Error::Away("the database has not answered".into())),
                Ok(Ok(())) => {}
                // Another node makes them at the same time.
                Ok(Err(e)) if e.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                    return Err(Error::Away("another node is making the tables".into()));
                }
                Ok(Err(e)) => return Err(refusal(&e)),
            }
        }
        if let Err(e) = client.batch_execute(sql::COMPRESS).await {
            tracing::debug!("batches are not compressed with lz4: {}", describe(&e));
        }
        Ok(())
    }
}

/// What the admin can do about an error of the database; [`Error::Away`] if it may go away by itself.
fn refusal(error: &tokio_postgres::Error) -> Error {
    let text = describe(error);
    let Some(code) = error.code() else { return Error::Away(text) };
    let what = match code.code() {
        "28P01" | "28000" => {
            "The user or the password in the replica's URL is wrong, or pg_hba.conf does not let it in"
        }
        "3D000" => "Make the database, or put the right name into the replica's URL",
        "42501" | "3F000" => {
            "The role may not do that. Run docs/replica.sql as the owner of the database: it makes the tables and grants what is needed"
        }
        "42P01" | "42703" | "42804" | "42883" => {
            "The tables are not those of this version, or half of them: see docs/high-availability.md"
        }
        _ => return Error::Away(text),
    };
    Error::Refused(format!("the database says: {text}. {what}"))
}

impl Connection {
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Within that time the lease must be answered for, or there would be none left in which to try another host.
    fn soon(&self) -> Duration {
        (self.patience * 3 / 2).min(LIMIT)
    }

    pub async fn look(&self) -> Result<Option<Row>, Error> {
        let row = within(self.soon(), self.client.query_opt(&self.prepared.look, &[&self.cluster])).await?;
        let row = row.map(|row| {
            let text: String = row.try_get(0)?;
            let (name, holder) = text.rsplit_once('#').unwrap_or((&text, &text));
            Ok(Row {
                holder: holder.to_owned(),
                name: name.to_owned(),
                epoch: unsigned(row.try_get(1)?),
                beat: unsigned(row.try_get(2)?),
                released: row.try_get(3)?,
            })
        });
        row.transpose().map_err(|e| away(&e))
    }

    async fn count(&self, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        within(LIMIT, self.client.execute(statement, parameters)).await
    }

    /// `None`: somebody has a lock on the row for longer than is waited for.
    pub async fn claim(&self, claim: &Claim) -> Result<Option<bool>, Error> {
        let (statements, epoch) = (&self.prepared, signed(claim.epoch));
        let from = claim.from.as_ref().filter(|row| row.epoch > 0);
        let done = match from {
            None => {
                timeout(
                    LIMIT,
                    self.client.execute(&statements.claim_first, &[&self.cluster, &self.holder, &epoch]),
                )
                .await
            }
            Some(row) => {
                let (seen, beat) = (signed(row.epoch), signed(row.beat));
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [&self.cluster, &self.holder, &epoch, &seen, &beat, &self.node];
                timeout(LIMIT, self.client.execute(&statements.claim, &parameters)).await
            }
        };
        match done {
            Err(_) => Err(Error::Away("the database has not answered a claim".into())),
            Ok(Err(e)) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
            Ok(result) => result.map(|rows| Some(rows > 0)).map_err(|e| refusal(&e)),
        }
    }

    /// Ends the connections of a node that is in the way.
    pub async fn terminate(&self, application: &str) -> Result<usize, Error> {
        within(LIMIT, self.client.query(sql::TERMINATE, &[&application])).await.map(|rows| rows.len())
    }

    pub async fn renew(&self, epoch: u64) -> Result<bool, Error> {
        self.count(&self.prepared.renew, &[&self.cluster, &self.holder, &signed(epoch)])
            .await
            .map(|rows| rows > 0)
    }

    pub async fn release(&self, epoch: u64) -> Result<(), Error> {
        self.count(&self.prepared.release, &[&self.cluster, &self.holder, &signed(epoch)]).await.map(drop)
    }

    /// Ends this node's earlier connections, so that nothing that was sent there is done later.
    pub async fn alone(&self) -> Result<(), Error> {
        let application = application(&self.node);
        for _ in 0..100 {
            let row = within(LIMIT, self.client.query_one(sql::ALONE, &[&application])).await?;
            if row.try_get::<_, i64>(0).map_err(|e| away(&e))? == 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(Error::Away("an earlier connection of this node to the database does not end".into()))
    }

    /// What is there of each segment, once all of it is as safe as any commit; `None`: not now, or this node does not have the lease.
    ///
    /// What another connection of this node was about to commit may be seen before the database's replica has it. A commit that
    /// was answered without a warning says that it has all before.
    pub async fn tail(&self, epoch: u64) -> Result<Option<Vec<Extent>>, Error> {
        self.alone().await?;
        let rows = within(LIMIT, self.client.query(&self.prepared.tail, &[&self.cluster])).await?;
        let extents = rows.iter().map(|row| {
            Ok(Extent {
                segment: u32::try_from(row.try_get::<_, i64>(0)?).unwrap_or(u32::MAX),
                end: unsigned(row.try_get(1)?),
                bytes: unsigned(row.try_get(2)?),
            })
        });
        let extents: Result<Vec<Extent>, tokio_postgres::Error> = extents.collect();
        let extents = extents.map_err(|e| away(&e))?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.cluster, &self.holder, &signed(epoch)];
        let confirmed = self.patiently(&self.prepared.confirm, &parameters).await?;
        Ok((confirmed == Some(1)).then_some(extents))
    }

    /// How many rows, if that was committed and is as safe as can be; a commit that takes too long is cancelled.
    async fn patiently(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<u64>, Error> {
        let before = self.warnings.load(Ordering::Acquire);
        let mut done = pin!(self.client.execute(statement, parameters));
        let result = match timeout(self.patience, &mut done).await {
            Ok(result) => result,
            Err(_) => {
                // Where it cannot be cancelled the connection is to end.
                let cancel = self.client.cancel_token();
                let cancelled = timeout(self.patience / 2, cancel.cancel_query(self.tls.clone())).await;
                if !matches!(cancelled, Ok(Ok(()))) {
                    return Err(Error::Away("a commit of the database has not been answered".into()));
                }
                let late = timeout(self.patience / 2, &mut done).await;
                late.map_err(|_| Error::Away("a commit of the database has not been answered".into()))?
            }
        };
        match result {
            Err(e) if e.code() == Some(&SqlState::QUERY_CANCELED) => Ok(None),
            Err(e) => Err(away(&e)),
            Ok(rows) => Ok((self.warnings.load(Ordering::Acquire) == before).then_some(rows)),
        }
    }

    pub async fn send(&self, epoch: u64, batch: Batch, data: &[u8]) -> Result<Sent, Error> {
        let (segment, offset) = (i64::from(batch.segment), signed(batch.offset));
        let parameters: [&(dyn ToSql + Sync); 5] = [&self.cluster, &signed(epoch), &segment, &offset, &data];
        match self.patiently(&self.prepared.send, &parameters).await? {
            None => Ok(Sent::Unknown),
            Some(1..) => Ok(Sent::Committed),
            Some(0) => {
                let parameters: [&(dyn ToSql + Sync); 3] = [&self.cluster, &segment, &offset];
                let row = within(LIMIT, self.client.query_one(&self.prepared.ask, &parameters)).await?;
                let held: Option<i64> = row.try_get(0).map_err(|e| away(&e))?;
                Ok(if held == Some(signed(epoch)) { Sent::Unknown } else { Sent::Fenced })
            }
        }
    }

    pub async fn remove(&self, epoch: u64, segments: &[u32]) -> Result<(), Error> {
        let segments: Vec<i64> = segments.iter().map(|segment| i64::from(*segment)).collect();
        self.count(&self.prepared.remove, &[&self.cluster, &signed(epoch), &segments]).await.map(drop)
    }

    pub async fn cut(&self, epoch: u64, segment: u32, end: u64) -> Result<(), Error> {
        for statement in &self.prepared.cut {
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&self.cluster, &signed(epoch), &i64::from(segment), &signed(end)];
            self.count(statement, &parameters).await?;
        }
        Ok(())
    }
}

/// All that is there, in order, from a connection of its own: renewals go on meanwhile.
pub(crate) async fn read(client: &Client, cluster: &str) -> Result<RowStream, Error> {
    within(LIMIT, client.query_raw(sql::READ, [&cluster])).await
}

/// The batch in a row of it.
pub(crate) fn batch(row: &tokio_postgres::Row) -> Result<(u32, u64, &[u8]), Error> {
    let get = || Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, &[u8]>(2)?));
    let (segment, offset, data) = get().map_err(|e: tokio_postgres::Error| away(&e))?;
    Ok((u32::try_from(segment).unwrap_or(u32::MAX), unsigned(offset), data))
}
