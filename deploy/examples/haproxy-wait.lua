-- haproxy-wait.lua: clients wait for a server, 10 s at most, instead of getting an error: an application that does not
-- try again sees a change of primary as a slow connection. HAProxy's file has in its section `global`
--
--     lua-load /etc/haproxy/haproxy-wait.lua
--
-- and in the section postgres_write these lines in place of both `tcp-request connection reject`:
--
--     tcp-request inspect-delay 15s
--     tcp-request content lua.wait_for_one_server
--     tcp-request content reject if { srv_is_up(start/first_checks) }
--     tcp-request content reject if { nbsrv(postgres_write) gt 1 }
--
-- Connections that wait count for maxconn.

core.register_action("wait_for_one_server", { "tcp-req" }, function(txn)
  local over = core.now().sec + 10
  -- The section `start` has two servers until each server was checked.
  while (txn.f:nbsrv("start") > 1 or txn.f:nbsrv("postgres_write") ~= 1) and core.now().sec < over do
    core.msleep(20)
  end
end)
