//! The statements, and what their answers mean.
//!
//! Each is one that commits by itself: there is never a transaction that a node that is stopped could leave open. What only the
//! holder may do takes a share lock on the row of the lease, so that another node's claim waits for it, and it for that.

/// Of the tables. It stands in a comment on `enjamb_lease`.
pub const VERSION: &str = "enjamb 1";

/// Which of the tables are there, what the comment says, and whether fsync is on.
pub const TABLES: &str = "SELECT to_regclass('enjamb_lease') IS NOT NULL, to_regclass('enjamb_batch') IS NOT NULL, \
	obj_description(to_regclass('enjamb_lease')), current_setting('fsync') = 'on', pg_is_in_recovery()";

/// What makes them: docs/replica.sql has the same.
pub const CREATE: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS enjamb_lease (cluster text PRIMARY KEY, holder text NOT NULL, epoch bigint NOT NULL, \
	beat bigint NOT NULL, released boolean NOT NULL) WITH (fillfactor = 20)",
    "CREATE TABLE IF NOT EXISTS enjamb_batch (cluster text NOT NULL, epoch bigint NOT NULL, segment bigint NOT NULL, \
	\"offset\" bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (cluster, epoch, segment, \"offset\"))",
    "COMMENT ON TABLE enjamb_lease IS 'enjamb 1'",
];

/// From PostgreSQL 14 on, if it was built with it.
pub const COMPRESS: &str = "ALTER TABLE enjamb_batch ALTER COLUMN data SET COMPRESSION lz4";

/// What holds for the connection. That commits are on the disk, whatever the server's default; that nobody is waited for very long.
pub const SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '2s'; SET statement_timeout = 0; \
	SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning";

/// The row: $1 cluster.
pub const LOOK: &str = "SELECT holder, epoch, beat, released FROM enjamb_lease WHERE cluster = $1";

/// The first claim: $1 cluster, $2 holder, $3 epoch.
pub const CLAIM_FIRST: &str = "INSERT INTO enjamb_lease (cluster, holder, epoch, beat, released) VALUES ($1, $2, $3, 1, false) \
	ON CONFLICT DO NOTHING";

/// Any other: $1 cluster, $2 holder, $3 epoch, $4 the epoch and $5 the beat that were seen, $6 this node.
pub const CLAIM: &str = "UPDATE enjamb_lease SET holder = $2, epoch = $3, beat = beat + 1, released = false \
	WHERE cluster = $1 AND epoch = $4 AND (released OR beat = $5 OR right(holder, 17) = '#' || $6)";

/// A renewal: $1 cluster, $2 holder, $3 epoch. It need not survive a failover of the database, since who waits there begins to count
/// anew; so it does not wait for a replica of it that is away.
pub const RENEW: &str = "UPDATE enjamb_lease SET beat = beat + 1 WHERE cluster = $1 AND holder = $2 AND epoch = $3 AND NOT released \
	AND set_config('synchronous_commit', 'local', true) IS NOT NULL";

/// Giving it up: $1 cluster, $2 holder, $3 epoch.
pub const RELEASE: &str =
    "UPDATE enjamb_lease SET released = true WHERE cluster = $1 AND holder = $2 AND epoch = $3";

/// Ends the backends of a node that is in the way: $1 their application_name.
pub const TERMINATE: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
	WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()";

/// The same for a node's own earlier connections: a statement on one may still be under way. How many there are.
pub const ALONE: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
	WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()";

/// A batch: $1 cluster, $2 epoch, $3 segment, $4 offset, $5 data. No row: fenced, or there already.
pub const SEND: &str = "INSERT INTO enjamb_batch (cluster, epoch, segment, \"offset\", data) \
	SELECT l.cluster, l.epoch, $3, $4, $5 FROM enjamb_lease l WHERE l.cluster = $1 AND l.epoch = $2 AND NOT l.released FOR SHARE \
	ON CONFLICT DO NOTHING";

/// Which of both: $1 cluster, $2 segment, $3 offset. The lease's epoch, and how long that batch is if it is there.
pub const ASK: &str = "SELECT (SELECT epoch FROM enjamb_lease WHERE cluster = $1 AND NOT released), \
	(SELECT max(length(data)) FROM enjamb_batch WHERE cluster = $1 AND segment = $2 AND \"offset\" = $3)";

/// What is there: $1 cluster. Of each segment where it ends, and how many bytes there are.
pub const TAIL: &str = "SELECT segment, max(\"offset\" + length(data)), sum(length(data))::bigint FROM enjamb_batch \
	WHERE cluster = $1 GROUP BY segment";

/// Removes segments: $1 cluster, $2 epoch, $3 their numbers.
pub const REMOVE: &str = "WITH l AS MATERIALIZED (SELECT 1 FROM enjamb_lease WHERE cluster = $1 AND epoch = $2 AND NOT released FOR SHARE) \
	DELETE FROM enjamb_batch WHERE cluster = $1 AND segment = ANY($3) AND EXISTS (SELECT 1 FROM l)";

/// Cuts a segment: $1 cluster, $2 epoch, $3 segment, $4 its length. First what lies behind, then what crosses the end.
pub const CUT: [&str; 2] = [
    "WITH l AS MATERIALIZED (SELECT 1 FROM enjamb_lease WHERE cluster = $1 AND epoch = $2 AND NOT released FOR SHARE) \
	DELETE FROM enjamb_batch WHERE cluster = $1 AND segment = $3 AND \"offset\" >= $4 AND EXISTS (SELECT 1 FROM l)",
    "WITH l AS MATERIALIZED (SELECT 1 FROM enjamb_lease WHERE cluster = $1 AND epoch = $2 AND NOT released FOR SHARE) \
	UPDATE enjamb_batch SET data = substring(data FROM 1 FOR ($4 - \"offset\")::integer) WHERE cluster = $1 AND segment = $3 \
	AND \"offset\" < $4 AND \"offset\" + length(data) > $4 AND EXISTS (SELECT 1 FROM l)",
];

/// All that is there, in order: $1 cluster.
pub const READ: &str = "SELECT segment, \"offset\", data FROM enjamb_batch WHERE cluster = $1 ORDER BY segment, \"offset\", epoch";

/// Gives the space of removed batches back. Not for a role that does not own the table; then the server's own does it.
pub const VACUUM: &str = "VACUUM enjamb_batch";
