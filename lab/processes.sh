# shellcheck shell=bash disable=SC2153
# Part of lab/lab: processes. A daemon NAME (n1/primgr, n1/repmgrd, haproxy) has its output in $DIR/NAME.log
# and, in $DIR/NAME.pid, its pid and start time; PostgreSQL is in postgres.sh.

# ---- who runs them ------------------------------------------------------------------------------

is_root() { ((EUID == 0)); }

# Prefixes that run a command as the owner of the servers; empty unless root.
AS_POSTGRES=()
! is_root || AS_POSTGRES=(setpriv --reuid postgres --regid postgres --init-groups env HOME="$DIR")

# on_node NAME CMD…: as the node's database owner, with nothing of the caller's but its output.
on_node() {
  local name=$1
  shift
  (
    close_files
    cd "$DIR" || exit
    in_netns "${NETNS[$name]}" "${AS_POSTGRES[@]}" "$@" </dev/null
  )
}

# A server that inherited a lock or a pipe of the caller's would hold it for life.
close_files() {
  local fd
  for fd in /proc/"$BASHPID"/fd/*; do
    fd=${fd##*/}
    ((fd > 2)) && eval "exec $fd>&-"
  done
  return 0
}

# ---- one process --------------------------------------------------------------------------------

# Field 22 of /proc/PID/stat: with it, a pid names one process for ever.
start_time() {
  local -a stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  stat=${stat##*) }
  read -r -a stat <<<"$stat"
  [[ ${stat[0]} != Z ]] || return 1
  say "${stat[19]}"
}

# In a condition a failed $(<FILE) would end the shell, silently: a process may be gone.
stopped() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  [[ $stat =~ .*\)\ T ]]
}

# spawn NETNS NAME CMD…: starts $DIR/NAME.log, NAME.pid.
spawn() {
  local netns=$1 name=$2 pid
  shift 2
  (
    close_files
    cd "$DIR" || exit
    if [[ $LAB_NET == netns ]]; then set -- nsenter --net="/run/netns/$netns" -- "$@"; fi
    exec setsid "$@" </dev/null >>"$DIR/$name.log" 2>&1
  ) &
  pid=$!
  say "$pid $(start_time "$pid" || say 0)" >"$DIR/$name.pid"
  disown
}

# The pid in $DIR/NAME.pid, if that very process still runs.
live_pid() {
  local pid start
  [[ -r $DIR/$1.pid ]] && read -r pid start <"$DIR/$1.pid" || return 1
  [[ $(start_time "$pid") == "$start" ]] || return 1
  say "$pid"
}

# signal SIGNAL NAME
signal() {
  local pid
  pid=$(live_pid "$2") || fail "${2} is not running"
  kill -s "$1" "$pid"
}

# end SIGNAL NAME: with that, or SIGKILL if it takes long; returns when it is gone.
end() {
  local pid deadline=$((SECONDS + 5))
  pid=$(live_pid "$2") || return 0
  kill -s "$1" "$pid"
  while live_pid "$2" >/dev/null; do
    ((SECONDS < deadline)) || kill -s KILL "$pid" 2>/dev/null || true
    sleep 0.02
  done
}

# ---- daemons ------------------------------------------------------------------------------------

start_daemon() {
  local kind=$1 name=${2:-} log as=("${AS_POSTGRES[@]}")
  [[ -z $OPT_PRIMGR_USER ]] ||
    as=(setpriv --reuid "$OPT_PRIMGR_USER" --regid "$(id -g "$OPT_PRIMGR_USER")" --clear-groups)
  log=${name:+$name/}$kind
  ! live_pid "$log" >/dev/null || fail "$log is running already"
  case $kind in
    primgr) spawn "${NETNS[$name]}" "$log" "${as[@]}" "$DIR/primgr" --config "$DIR/$name/primgr.conf" ;;
    sshd) spawn "${NETNS[$name]}" "$log" "${AS_POSTGRES[@]}" /usr/sbin/sshd -D -e -f "$DIR/ssh/sshd_config" ;;
    repmgrd) 
      spawn "${NETNS[$name]}" "$log" "${AS_POSTGRES[@]}" "$PGBIN/repmgrd" -f "$DIR/$name/repmgr.conf" --daemonize=false --no-pid-file ;;
    haproxy)
      in_unit ExecStartPre
      # shellcheck disable=SC2086  # as in the unit
      spawn "$HUB_NS" "$log" "${AS_POSTGRES[@]}" env "$(unit_lines Environment)" haproxy -Ws -f $CONFIG -p "$DIR/haproxy.pidfile" $EXTRAOPTS ;;
  esac
}

# HAProxy is run as Debian's haproxy.service does it, with deploy/examples/haproxy.service.conf.
readonly CONFIG="$DIR/haproxy.cfg -f $DIR/haproxy-lab.cfg" EXTRAOPTS="-S $DIR/haproxy-master.sock"

# unit_lines KEY: what that file has for it, with the files of this lab.
unit_lines() {
  sed -n -e "s|/usr/local/lib/primgr/haproxy-reload .*|& $DIR/haproxy.sock $DIR/haproxy.state|" \
    -e "s|/usr/local/lib/primgr/|$DIR/|; s|/run/haproxy.state|$DIR/haproxy.state|; s/^$1=\(.\)/\1/p" "$DIR/haproxy.service.conf"
}

# in_unit KEY: runs these commands, as systemd does, one after the other.
in_unit() {
  local lines
  lines=$(unit_lines "$1")
  [[ $lines ]] || fail "deploy/examples/haproxy.service.conf has no $1"
  (
    export CONFIG EXTRAOPTS "$(unit_lines Environment)" MAINPID
    MAINPID=$(live_pid haproxy) || true
    in_netns "$HUB_NS" "${AS_POSTGRES[@]}" sh -ec "$lines" >>"$DIR/haproxy.log" 2>&1
  )
}

reload_haproxy() {
  live_pid haproxy >/dev/null || fail 'haproxy is not running'
  in_unit ExecReload || fail "haproxy: the reload failed: $(tail -n 1 "$DIR/haproxy.log")"
}

# signal_all SIGNAL: to HAProxy's master and its workers.
signal_all() {
  local pid
  pid=$(live_pid haproxy) || fail 'haproxy is not running'
  kill -s "$1" "$pid" $(pgrep -P "$pid")
}

# daemon KIND NODE ACTION
daemon() {
  local log=${2:+$2/}$1
  case ${3:-} in
    start) start_daemon "$1" "$2" ;;
    stop) end TERM "$log" ;;
    kill) end KILL "$log" ;;
    restart) end TERM "$log"; start_daemon "$1" "$2" ;;
    term) signal TERM "$log" ;;
    usr1) signal USR1 "$log" ;;
    hup) signal HUP "$log" ;;
    pause) signal STOP "$log" ;;
    resume) signal CONT "$log" ;;
    *) wrong "$1: what? start, stop, term, kill, restart, usr1, hup, pause or resume" ;;
  esac
}

### The daemons: `stop` waits until it is gone, `term` does not; kill: SIGKILL; pause, resume: SIGSTOP, SIGCONT

## primgr NODE start|stop|term|kill|restart|usr1|hup|pause|resume
verb_primgr() {
  need_node "${1:-}"
  daemon primgr "$1" "${2:-}"
}

## repmgrd NODE start|stop|term|kill|restart|pause|resume
verb_repmgrd() {
  need_node "${1:-}"
  daemon repmgrd "$1" "${2:-}"
}

## haproxy start|stop|term|kill|restart|reload|pause|resume
##                      reload: as `systemctl reload haproxy` with deploy/examples/haproxy.service.conf
verb_haproxy() {
  case ${1:-} in
    reload) reload_haproxy ;;
    kill) signal_all KILL; end KILL haproxy ;;
    pause) signal_all STOP ;;
    resume) signal_all CONT ;;
    *) daemon haproxy '' "${1:-}" ;;
  esac
}

# ---- all of them --------------------------------------------------------------------------------

# The pids below PID, but for the shell that asks.
descendants() {
  local pid
  for pid in $(pgrep -P "$1"); do
    [[ $pid != "$BASHPID" ]] || continue
    say "$pid"
    descendants "$pid"
  done
}

# kill_all SIGNAL: the pids on standard input.
kill_all() {
  local pid
  while read -r pid; do kill -s "$1" "$pid" 2>/dev/null; done
  return 0
}

# With their children: HAProxy's workers outlive a master that is killed.
daemon_pids() {
  local file pid
  for file in "$DIR"/*.pid "$DIR"/*/*.pid; do
    file=${file#"$DIR/"}
    pid=$(live_pid "${file%.pid}") || continue
    say "$pid"
    pgrep -P "$pid" || true
  done
}

# What runs in the lab's namespaces, its daemons, its servers.
all_pids() {
  local name
  {
    daemon_pids
    for name in "${NODES[@]}"; do
      postgres_pids "$name"
      [[ $LAB_NET == netns && -e /run/netns/${NETNS[$name]} ]] && ip netns pids "${NETNS[$name]}"
    done
    [[ $LAB_NET == netns && -e /run/netns/$HUB_NS ]] && ip netns pids "$HUB_NS"
  } | sort -u | grep -vx "$$"
  return 0
}
