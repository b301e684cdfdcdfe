-- What deploy/examples/fence needs in the database. Run it once, on the primary, as superuser, in the
-- database that holds the repmgr extension, when the role primgr is there:
--
--     psql -X -v ON_ERROR_STOP=1 -d repmgr -f fence.sql
--
-- On each node, put these two lines above all others in pg_hba.conf, make the file that they name in
-- the same folder, and reload:
--
--     local   template0,@primgr_fence   all         reject
--     host    template0,@primgr_fence   all   all   reject
--
--     sudo -u postgres touch /etc/postgresql/15/main/primgr_fence
--
-- Closed, that file names every database but this one, so that primgr, repmgr and replication, and an
-- operator with `psql -d repmgr`, get in. Open, it is empty; template0 lets nobody in anyway. From
-- PostgreSQL 16 on a missing file keeps a server from starting.
--
-- Why a file, not ALTER DATABASE … CONNECTION LIMIT 0: it holds for superusers too, and it is this node's
-- alone. A catalog is replicated, so a standby could inherit closed databases, and open them only when it
-- is promoted; and writing to it would wait for a synchronous standby that a cut off primary does not
-- have, and would make its WAL diverge. No limit that an operator has set has to be put back, either.

BEGIN;
CREATE SCHEMA primgr;
GRANT USAGE ON SCHEMA primgr TO primgr;

-- Closes this server to clients and ends their sessions, or opens it. A standby is always opened: it
-- takes no writes. Returns how many sessions it has ended. It may be repeated: a session that was just
-- beginning is ended by the next call.
CREATE FUNCTION primgr.fence(closed boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  file text := regexp_replace(current_setting('hba_file'), '[^/]*$', 'primgr_fence');
BEGIN
  closed := closed AND NOT pg_is_in_recovery();
  -- A delimiter and a quote that are in no name, so that names stand there as pg_hba.conf quotes them.
  EXECUTE format($copy$
    COPY (SELECT '"' || replace(datname, '"', '""') || '"' FROM pg_database
          WHERE %L AND datname <> current_database())
    TO %L (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')$copy$, closed, file);
  PERFORM pg_reload_conf();
  IF NOT closed THEN
    RETURN 0;
  END IF;
  RETURN (SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE backend_type = 'client backend' AND datname <> current_database());
END $$;

REVOKE EXECUTE ON FUNCTION primgr.fence FROM PUBLIC;
GRANT EXECUTE ON FUNCTION primgr.fence TO primgr;
COMMIT;
