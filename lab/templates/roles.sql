-- What a cluster of repmgr has before primgr comes: deploy/primgr.sql makes the role primgr.
CREATE ROLE repmgr SUPERUSER LOGIN REPLICATION;
CREATE ROLE app LOGIN;
ALTER DATABASE postgres OWNER TO app;
CREATE DATABASE repmgr OWNER repmgr;
-- Otherwise the GRANT CONNECT of deploy/primgr.sql would not be missed.
REVOKE CONNECT ON DATABASE repmgr FROM PUBLIC;
