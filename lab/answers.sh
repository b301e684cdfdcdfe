# shellcheck shell=bash disable=SC2153
# Part of lab/lab: what nodes, databases and HAProxy answer, for people, programs and `up`, which waits
# until all is as it should be.

readonly TABLE_LINE='%-12s %-8s %-9s %-8s %-8s %-12s %-12s %-8s %-6s %s\n'

# ---- questions ----------------------------------------------------------------------------------

# The string under KEY in a flat JSON object, or -.
word_in() {
  if [[ $1 =~ \"$2\"[[:space:]]*:[[:space:]]*\"([^\"]*)\" ]]; then say "${BASH_REMATCH[1]}"; else say -; fi
}

scheme() { if [[ -n $OPT_TLS ]]; then say https; else say http; fi; }

# fetch NETNS …: curl, as HAProxy would be let in.
fetch() {
  local tls=()
  [[ -z $OPT_TLS ]] || tls=(--cacert "$DIR/tls/ca.crt" --cert "$DIR/tls/haproxy.pem")
  in_netns "$1" curl -q "${tls[@]}" "${@:2}"
}

# ask NODE PATH…: each answer as "CODE BODY", from beside the node, whatever its network does.
ask() {
  local name=$1 path urls=()
  shift
  for path in "$@"; do urls+=("$(scheme)://127.0.0.1:${HTTP_PORT[$name]}$path"); done
  fetch "${NETNS[$name]}" -s --max-time 1 -w ' %{http_code}\n' "${urls[@]}" 2>/dev/null || true
}

# haproxy_view: lines "write|read NODE UP|DOWN".
haproxy_view() {
  local fields
  curl -q -s --max-time 1 --unix-socket "$DIR/haproxy.stats" 'http://haproxy/;csv' 2>/dev/null | while IFS=, read -r -a fields; do
    case ${fields[0]}/${fields[1]} in
      */FRONTEND | */BACKEND | '#'*) ;;
      postgres_write/* | postgres_read/*) say "${fields[0]#postgres_} ${fields[1]} ${fields[17]%% *}" ;;
    esac
  done || true
}

# Whether HAProxy lets anybody in: after a start it first checks each server.
haproxy_open() {
  curl -q -s --max-time 1 --unix-socket "$DIR/haproxy.stats" 'http://haproxy/;csv' 2>/dev/null |
    grep -q '^start,first_checks,.*,DOWN,'
}

node_state() {
  local answers state primary named
  mapfile -t answers < <(ask "$1" /state /primary)
  state=${answers[0]:- 000} primary=${answers[1]:- 000}
  named=$(word_in "$primary" node)
  [[ $named != - ]] || named=$(word_in "$primary" Primary)
  say "$1 ${state##* } $(word_in "$state" state) $named"
}

# Puts lines that begin with a node's name in the nodes' order.
sort_nodes() {
  local name rest
  local -A line=()
  while read -r name rest; do line[$name]=$rest; done
  for name in "${NODES[@]}"; do say "$name ${line[$name]:-}"; done
}

node_database() {
  local recovery type pid='' database=down repmgrd=-
  pid=$(postmaster_pid "$1") || true
  if [[ -n $pid ]] && stopped "$pid"; then
    database=paused
  elif [[ -n $pid ]]; then
    IFS='|' read -r recovery type < <(timeout 1 "${AS_POSTGRES[@]}" "$PGBIN/psql" -X -At -h "$DIR/$1" -p "${PG_PORT[$1]}" \
      -U postgres -d repmgr -c "SELECT pg_is_in_recovery(), (SELECT type FROM repmgr.nodes WHERE node_name = '$1')" 2>/dev/null) || true
    case ${recovery:-} in t) database=recovery ;; f) database=writable ;; *) database=silent ;; esac
  fi
  if live_pid "$1/repmgrd" >/dev/null; then repmgrd=alive; fi
  say "$1 $database ${type:--} $repmgrd"
}

### What the nodes are

## status               a table of the nodes, for people
verb_status() {
  local name database type repmgrd code state primary writes reads
  local -A other=()
  # shellcheck disable=SC2059
  printf "$TABLE_LINE" NODE SITE DATABASE RECORDED REPMGRD PRIMGR 'NAMES' HTTP WRITE READ
  while read -r name database type repmgrd; do other[$name]="$database $type $repmgrd"; done < <(
    for name in "${NODES[@]}"; do node_database "$name" & done; wait)
  verb_states | while read -r name code state primary writes reads; do
    read -r database type repmgrd <<<"${other[$name]}"
    # shellcheck disable=SC2059
    printf "$TABLE_LINE" "$name" "${SITE[$name]}" "$database" "$type" "$repmgrd" "$state" "$primary" "$code" "$writes" "$reads"
  done
}

## states               the same in short, for programs: NAME CODE STATE PRIMARY WRITE READ
verb_states() {
  local name code state primary proxy view
  local -A seen=()
  while read -r proxy name view; do seen[$proxy $name]=$view; done < <(haproxy_view)
  for name in "${NODES[@]}"; do node_state "$name" & done | sort_nodes | while read -r name code state primary; do
    say "$name $code $state $primary ${seen[write $name]:--} ${seen[read $name]:--}"
  done
}

## watch [SECONDS]      a line whenever one of the states changes
verb_watch() {
  local start=${EPOCHREALTIME/./} now before='' line elapsed
  while :; do
    now=$(verb_states)
    elapsed=$((${EPOCHREALTIME/./} - start))
    while read -r line; do
      [[ $'\n'$before$'\n' == *$'\n'$line$'\n'* ]] || printf '%7.1f s  %s\n' "$((elapsed / 100000))e-1" "$line"
    done <<<"$now"
    before=$now
    [[ -z ${1:-} ]] || ((elapsed < $1 * 1000000)) || return 0
    sleep 0.05
  done
}

## wait NODE STATE [SECONDS]
##                      until its primgr answers that state (10 s unless told)
verb_wait() {
  need_node "${1:-}"
  (($# > 1)) || wrong 'wait NODE STATE [SECONDS]'
  local name=$1 want=$2 deadline answer
  deadline=$((${EPOCHREALTIME/./} + ${3:-10} * 1000000))
  while :; do
    answer=$(ask "$name" /state)
    [[ $(word_in "$answer" state) == "$want" ]] && return
    ((${EPOCHREALTIME/./} < deadline)) || break
    sleep 0.03
  done
  fail "$name is not $want after ${3:-10} s: it answers: $answer"
}

### Through HAProxy, and to a primgr

# sql PORT SQL
sql() {
  (($# == 2)) || wrong 'write SQL, read SQL'
  PGCONNECT_TIMEOUT=2 in_netns "$HUB_NS" "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$WRITE_HOST" -p "$1" -U app -d postgres -c "$2"
}

## write SQL            through HAProxy, to the primary
verb_write() { sql "$WRITE_PORT" "$@"; }

## read SQL             through HAProxy, to a standby
verb_read() { sql "$READ_PORT" "$@"; }

## http NODE PATH [CURL ARG…]
##                      asks its primgr from the hub
verb_http() {
  need_node "${1:-}"
  local name=$1 path=${2:-/state}
  fetch "$HUB_NS" -si --max-time 5 "${@:3}" "$(scheme)://${ADDRESS[$name]}:${HTTP_PORT[$name]}$path"
}

# ---- until all is well --------------------------------------------------------------------------

# Until repmgrd would act on what happens next.
wait_for_repmgrd() {
  local name deadline=$((SECONDS + 15))
  for name in "${NODES[@]}"; do
    until grep -Eqs 'monitoring (cluster primary|connection to upstream|primary node)|witness monitoring' "$DIR/$name/repmgrd.log"; do
      if ! live_pid "$name/repmgrd" >/dev/null || ((SECONDS > deadline)); then fail "repmgrd of $name does not work"; fi
      sleep 0.05
    done
  done
}

# Until every primgr says what it should and HAProxy has seen it.
wait_until_settled() {
  local name deadline=$((SECONDS + 20))
  until verb_states | settled && all_vote && { [[ -z $OPT_HAPROXY ]] || haproxy_open; }; do
    for name in "${NODES[@]}"; do
      live_pid "$name/primgr" >/dev/null || fail "primgr of $name has ended: $(tail -n 1 "$DIR/$name/primgr.log")"
    done
    [[ -z $OPT_HAPROXY ]] || live_pid haproxy >/dev/null || fail "HAProxy has ended: $(tail -n 1 "$DIR/haproxy.log")"
    ((SECONDS < deadline)) || { verb_states >&2; fail "the cluster does not settle (--no-wait to leave it as it is)"; }
    sleep 0.05
  done
}

# Whether the primary has the vote of each node of its site. Before, it may be Primary by the list that
# it read when it was alone, while the other voters still keep still.
all_vote() {
  local answer name
  local -i of=0
  for name in "${NODES[@]}"; do [[ ${SITE[$name]} != "${SITE[$PRIMARY]}" ]] || of+=1; done
  answer=$(ask "$PRIMARY" /node)
  [[ $answer =~ '"votes":{"counted":'([0-9]+),'"needed":'[0-9]+,'"of":'([0-9]+) ]] || return 1
  ((BASH_REMATCH[1] == BASH_REMATCH[2] && BASH_REMATCH[2] >= of))
}

settled() {
  local name state write read want
  while read -r name _ state _ write read; do
    want='Standby DOWN UP'
    [[ $name == "$PRIMARY" ]] && want='Primary UP DOWN'
    [[ ${KIND[$name]} == witness ]] && want='Unknown DOWN DOWN'
    [[ -n $OPT_HAPROXY ]] || { want=${want%% *}; write='' read=''; }
    [[ $state${write:+ $write $read} == "$want" ]] || return 1
  done
}
