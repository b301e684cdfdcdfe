-- All that a role is and may, without its name; psql -v role=….
SELECT 'role', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit, rolvaliduntil
FROM pg_roles WHERE rolname = :'role';
SELECT 'setting', setconfig FROM pg_db_role_setting WHERE setrole = :'role'::regrole;
SELECT 'member of', roleid::regrole FROM pg_auth_members WHERE member = :'role'::regrole ORDER BY 2;
SELECT thing, privilege_type, is_grantable
FROM (SELECT 'database ' || datname, datacl FROM pg_database
      UNION ALL SELECT 'schema ' || nspname, nspacl FROM pg_namespace
      UNION ALL SELECT 'relation ' || oid::regclass, relacl FROM pg_class
      UNION ALL SELECT 'function ' || oid::regprocedure, proacl FROM pg_proc) AS things(thing, acl), aclexplode(acl)
WHERE grantee = :'role'::regrole ORDER BY 1, 2;
