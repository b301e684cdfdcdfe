# shellcheck shell=bash
# Part of lab/lab: PostgreSQL and repmgr: making a cluster, starting and ending its servers, promotion and
# what puts a node back in its place.

# The newest PostgreSQL that has repmgr, or nothing.
find_bindir() {
  local bin
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    [[ -x $bin/initdb && -x $bin/repmgr && -x $bin/repmgrd ]] && { say "$bin"; return; }
  done
  return 0
}

# ---- processes ----------------------------------------------------------------------------------

# Every process of a node's PostgreSQL has the data directory as its working directory.
postgres_pids() {
  find /proc -maxdepth 2 -name cwd \( -lname "$DIR/$1/data" -o -lname "$DIR/$1/data *" \) -printf '%h\n' 2>/dev/null |
    cut -d / -f 3 || true
}

postmaster_pid() {
  local pid
  { read -r pid <"$DIR/$1/data/postmaster.pid"; } 2>/dev/null || return 1
  [[ $(readlink "/proc/$pid/cwd" 2>/dev/null) == "$DIR/$1/data" ]] && say "$pid"
}

# kill_postgres NAME: all of them at once, and those that were being forked meanwhile.
kill_postgres() {
  local pids postmaster
  postmaster=$(postmaster_pid "$1") || true
  while pids=$(postgres_pids "$1") && [[ -n $pids ]]; do
    # shellcheck disable=SC2086
    kill -s KILL $pids 2>/dev/null || true
    sleep 0.005
  done
  forget_shared_memory "$1"
  # Until process 1 has reaped it, the dead postmaster's lock files would keep the next one from starting.
  [[ ! -e /proc/${postmaster:-none} ]] || rm -f "$DIR/$1"/data/postmaster.pid "$DIR/$1"/.s.PGSQL.*.lock
}

# The small System V segment that a killed server leaves behind (postmaster.pid, line 7: key and id).
forget_shared_memory() {
  local lines=() key id
  [[ -r $DIR/$1/data/postmaster.pid ]] || return 0
  mapfile -t lines <"$DIR/$1/data/postmaster.pid"
  read -r key id <<<"${lines[6]:-}"
  [[ -n $id && -n $key ]] || return 0
  # Only if that id still belongs to that key: ids are used again.
  grep -Eq "^ *$key +$id " /proc/sysvipc/shm && ipcrm -m "$id" 2>/dev/null
  return 0
}

pause_postgres() {
  local pid missed=yes
  [[ -n $(postgres_pids "$1") ]] || fail "PostgreSQL of $1 is not running"
  while [[ $missed ]]; do
    missed=
    for pid in $(postgres_pids "$1"); do
      stopped "$pid" || { missed=yes; kill -s STOP "$pid" 2>/dev/null || true; }
    done
  done
}

resume_postgres() {
  local pids
  pids=$(postgres_pids "$1")
  # shellcheck disable=SC2086
  [[ -z $pids ]] || kill -s CONT $pids
}

start_postgres() {
  [[ -z $(postmaster_pid "$1") ]] || fail "PostgreSQL of $1 is running already"
  on_node "$1" "$PGBIN/pg_ctl" -D "$DIR/$1/data" -l "$DIR/$1/postgresql.log" -s -w -t 30 start >>"$DIR/lab.log" 2>&1 ||
    { tail -n 5 "$DIR/$1/postgresql.log" >&2; fail "PostgreSQL of $1 does not start (whole log: $DIR/$1/postgresql.log)"; }
}

stop_postgres() {
  [[ -n $(postmaster_pid "$1") ]] || return 0
  resume_postgres "$1"
  on_node "$1" "$PGBIN/pg_ctl" -D "$DIR/$1/data" -m fast -s -w -t 20 stop >>"$DIR/lab.log" 2>&1 ||
    fail "PostgreSQL of $1 does not stop (log: $DIR/$1/postgresql.log): use: lab kill $1"
}

### PostgreSQL

## kill NODE            kill -9 of every process of its PostgreSQL
verb_kill() {
  need_node "${1:-}"
  kill_postgres "$1"
}

## stop NODE            pg_ctl stop, fast
verb_stop() {
  need_node "${1:-}"
  stop_postgres "$1"
}

## start NODE           pg_ctl start
verb_start() {
  need_node "${1:-}"
  start_postgres "$1"
}

## restart NODE
verb_restart() {
  need_node "${1:-}"
  stop_postgres "$1"
  start_postgres "$1"
}

## pause NODE           SIGSTOP to every one of its PostgreSQL processes
verb_pause() {
  need_node "${1:-}"
  pause_postgres "$1"
}

## resume NODE          SIGCONT to them
verb_resume() {
  need_node "${1:-}"
  resume_postgres "$1"
}

# ---- questions and commands ---------------------------------------------------------------------

psql_on() {
  local name=$1
  shift
  "${AS_POSTGRES[@]}" "$PGBIN/psql" -X -v ON_ERROR_STOP=1 -h "$DIR/$name" -p "${PG_PORT[$name]}" -U postgres -d repmgr "$@"
}

repmgr_on() {
  local name=$1
  shift
  on_node "$name" "$PGBIN/repmgr" -f "$DIR/$name/repmgr.conf" "$@"
}

conninfo_of() { say "host=${ADDRESS[$1]} port=${PG_PORT[$1]} user=repmgr dbname=repmgr connect_timeout=2"; }

## psql NODE [ARG…]     as superuser in database repmgr
verb_psql() {
  need_node "${1:-}"
  # psql complains of a folder that its user may not enter, such as root's home.
  "${AS_POSTGRES[@]}" test -x "$PWD" || cd "$DIR" || exit
  psql_on "$@"
}

# ---- making a cluster ---------------------------------------------------------------------------

# A cluster of its own with the settings that all share, for the primary and for each witness.
init_postgres() {
  local data=$DIR/$1/data
  on_node "$1" "$PGBIN/initdb" -N -A trust -U postgres --locale=C -E UTF8 --wal-segsize=1 -D "$data" >>"$DIR/lab.log" 2>&1
  # pg_rewind copies the configuration files too, so what differs between nodes lies outside.
  say "include '../postgresql.conf'" >"$data/postgresql.conf"
  fill pg_hba.conf >"$data/pg_hba.conf"
  start_postgres "$1"
  psql_on "$1" -d postgres -q -f "$DIR/roles.sql" >>"$DIR/lab.log" 2>&1
}

add_primary() {
  init_postgres "$1"
  repmgr_on "$1" primary register >>"$DIR/lab.log" 2>&1
  shipped_role "$1"
}

add_standby() {
  clone "$1" "$2"
  start_postgres "$1"
  # It is refused until the standby has attached itself, which takes a moment.
  local try
  for try in {1..50}; do
    repmgr_on "$1" standby register --wait-sync=10 >>"$DIR/lab.log" 2>&1 && return
    sleep 0.1
  done
  say "lab: $1 could not be registered after $try tries" >>"$DIR/lab.log"
  return 1
}

clone() {
  rm -rf "$DIR/$1/data"
  repmgr_on "$1" -d "$(conninfo_of "$2")" standby clone --fast-checkpoint >>"$DIR/lab.log" 2>&1
}

add_witness() {
  repmgr_on "$1" -d "$(conninfo_of "$2")" witness register >>"$DIR/lab.log" 2>&1
  shipped_role "$1"
}

### repmgr

## promote NODE         repmgr standby promote
verb_promote() {
  need_node "${1:-}"
  repmgr_on "$1" standby promote
}

## follow NODE          repmgr standby follow
verb_follow() {
  need_node "${1:-}"
  repmgr_on "$1" standby follow
}

## repmgr NODE ARG…     repmgr with the repmgr.conf of NODE, such as: repmgr n1 standby unregister --node-id=3
verb_repmgr() {
  need_node "${1:-}"
  (($# > 1)) || wrong 'repmgr NODE ARG…'
  repmgr_on "$@"
}

## takeover NODE [only STANDBY…]
##                      the fastest promotion there is, past repmgr, whose rows it writes: NODE takes writes, every
##                      other live standby follows it, or only those; an old primary that still runs is left alone
verb_takeover() {
  need_node "${1:-}"
  [[ $# == 1 || $2 == only ]] || wrong 'takeover NODE [only STANDBY…]'
  local name pid failed='' pids=()
  for name in "${@:3}"; do need_node "$name"; done
  psql_on "$1" -qAt -c "$PROMOTE_AT_ONCE" >/dev/null || fail "$1 is not promoted: is it a standby that runs?"
  record_primary "$1" "$1" &
  pids+=($!)
  for name in "${NODES[@]}"; do
    if [[ $name == "$1" ]] || ! answers_psql "$name"; then continue; fi
    [[ $# == 1 || " ${*:3} " == *" $name "* ]] || continue
    if [[ ${KIND[$name]} == witness ]]; then
      record_primary "$1" "$name" &
      pids+=($!)
    elif [[ -e $DIR/$name/data/standby.signal ]]; then
      point_to "$1" "$name" &
      pids+=($!)
    fi
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
  [[ -z $failed ]] || fail "takeover: $1 takes writes, but not every node could be told so"
}

# pg_promote() itself would look ten times a second only.
readonly PROMOTE_AT_ONCE='DO $$ BEGIN
  PERFORM pg_promote(false);
  WHILE pg_is_in_recovery() LOOP PERFORM pg_sleep(0.002); END LOOP;
END $$'

answers_psql() {
  local pid
  pid=$(postmaster_pid "$1") && ! stopped "$pid"
}

# record_primary NODE WHERE: the rows that repmgr writes when NODE is promoted and the others follow it.
record_primary() {
  psql_on "$2" -qAt -c "BEGIN;
    UPDATE repmgr.nodes SET active = false WHERE type = 'primary' AND active AND node_name <> '$1';
    UPDATE repmgr.nodes SET type = 'primary', active = true, upstream_node_id = NULL WHERE node_name = '$1';
    UPDATE repmgr.nodes SET upstream_node_id = ${ID[$1]} WHERE type <> 'primary';
    COMMIT" >/dev/null
}

# point_to NODE STANDBY: primary_conninfo as repmgr writes it. ALTER SYSTEM wants no transaction around it.
point_to() {
  psql_on "$2" -qAt \
    -c "ALTER SYSTEM SET primary_conninfo = 'user=repmgr connect_timeout=2 host=${ADDRESS[$1]} port=${PG_PORT[$1]} application_name=$2'" \
    -c 'SELECT pg_reload_conf()' >/dev/null
}

# only_primary VERB [NODE]: the one node, other than NODE, that takes writes.
only_primary() {
  local name found=()
  for name in "${NODES[@]}"; do
    [[ $name != "${2:-}" && ${KIND[$name]} == node ]] || continue
    [[ $(node_database "$name") == *' writable '* ]] && found+=("$name")
  done
  ((${#found[@]} == 1)) || fail "$1: ${#found[@]} ${2:+other }nodes take writes (${found[*]})${2:+: say which: lab $1 $2 PRIMARY}"
  say "${found[0]}"
}

## rejoin NODE [PRIMARY]
##                      make an old primary a standby again
verb_rejoin() {
  need_node "${1:-}"
  local name=$1 primary
  primary=${2:-$(only_primary rejoin "$1")}
  need_node "$primary"
  shut_down_cleanly "$name"
  # In an idle cluster a rewound server may ask to stream from beyond the end of the primary's WAL,
  # and would wait for it in state "startup": give it some.
  psql_on "$primary" -qAtc 'CHECKPOINT' -c 'SELECT pg_switch_wal()' >/dev/null
  if repmgr_on "$name" -d "$(conninfo_of "$primary")" node rejoin --force-rewind >"$DIR/$name/rejoin.log" 2>&1; then
    say "$name has rejoined below $primary"
  else
    tail -n 3 "$DIR/$name/rejoin.log" >&2
    say "lab: $name cannot be rewound (whole output: $DIR/$name/rejoin.log): cloning it anew" >&2
    kill_postgres "$name"
    clone "$name" "$primary" || { tail -n 5 "$DIR/lab.log" >&2; fail "cannot clone $name from $primary"; }
    start_postgres "$name"
    repmgr_on "$name" standby register --force --wait-sync=10 >>"$DIR/lab.log" 2>&1
    say "$name is cloned from $primary"
  fi
  [[ -z $OPT_REPMGRD ]] || live_pid "$name/repmgrd" >/dev/null || start_daemon repmgrd "$name"
}

# pg_rewind wants a cluster that was shut down. A killed primary recovers in single-user mode, where
# nobody can reach it; a standby cannot, but may be started without harm.
shut_down_cleanly() {
  local control
  if [[ -n $(postmaster_pid "$1") ]]; then stop_postgres "$1"; return; fi
  control=$(on_node "$1" "$PGBIN/pg_controldata" -D "$DIR/$1/data" | grep 'cluster state') || true
  [[ $control == *': '*'shut down'* && $control != *'shutting'* ]] && return
  if [[ -e $DIR/$1/data/standby.signal ]]; then
    start_postgres "$1"
    stop_postgres "$1"
  else
    on_node "$1" "$PGBIN/postgres" --single -D "$DIR/$1/data" repmgr >>"$DIR/$1/postgresql.log" 2>&1 ||
      say "lab: $1 does not recover by itself (log: $DIR/$1/postgresql.log)" >&2
  fi
}
