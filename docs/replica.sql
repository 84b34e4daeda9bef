-- The tables of a replica (smacks_replica, docs/high-availability.md), for a role that may not make them itself. Run it in the
-- database that smacks_replica names, as its owner, once:
--
--   psql -v role=prosody -f replica.sql DATABASE
--
-- One pair of tables serves any number of clusters.

CREATE TABLE IF NOT EXISTS enjamb_lease (
	cluster text PRIMARY KEY,
	holder text NOT NULL,      -- the node's name, and behind the # what no other node has
	epoch bigint NOT NULL,     -- how often the lease was taken
	beat bigint NOT NULL,      -- how often it was renewed
	released boolean NOT NULL  -- given up: another node need not wait
) WITH (fillfactor = 20);      -- one row that changes once a second

CREATE TABLE IF NOT EXISTS enjamb_batch (
	cluster text NOT NULL,
	epoch bigint NOT NULL,     -- under which it was written
	segment bigint NOT NULL,   -- of the journal
	"offset" bigint NOT NULL,  -- in the segment, in bytes
	data bytea NOT NULL,
	PRIMARY KEY (cluster, epoch, segment, "offset")
);

-- The version of both.
COMMENT ON TABLE enjamb_lease IS 'enjamb 1';

-- The least that the role needs.
GRANT SELECT, INSERT, UPDATE ON enjamb_lease TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON enjamb_batch TO :"role";

-- From PostgreSQL 14 on, if it was built with lz4; an error here does no harm.
ALTER TABLE enjamb_batch ALTER COLUMN data SET COMPRESSION lz4;

-- From PostgreSQL 17 on a role that does not own the table may be let vacuum it; before, autovacuum does.
-- GRANT MAINTAIN ON enjamb_batch TO :"role";
