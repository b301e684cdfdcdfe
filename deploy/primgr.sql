-- The database role that primgr needs, and no more: run it once, on the primary, as superuser, in the
-- database that holds the repmgr extension:
--
--     psql -X -v ON_ERROR_STOP=1 -d repmgr -f primgr.sql
--
-- pg_read_all_stats lets it see pg_stat_wal_receiver and pg_stat_replication whole. Without it all works
-- but what rests on replication lag: /replica, /read-only and /readiness answer 503 on a standby and say so.
--
-- It is replicated to the standbys. A witness has a database of its own: run it there too.
--
-- The role has no password: let it in through its operating system user, with this line in each
-- node's pg_hba.conf, above more general ones, and reload:
--
--     local   repmgr   primgr   peer

BEGIN;
CREATE ROLE primgr LOGIN;
SELECT format('GRANT CONNECT ON DATABASE %I TO primgr', current_database()) \gexec
GRANT USAGE ON SCHEMA repmgr TO primgr;
GRANT SELECT ON repmgr.nodes TO primgr;
GRANT pg_read_all_stats TO primgr;
COMMIT;
