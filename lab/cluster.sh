# shellcheck shell=bash disable=SC2034
# Part of lab/lab: the whole cluster: `up` with its options, more nodes, and `down`.

# ---- options ------------------------------------------------------------------------------------

declare -a OPT_NAMES=() OPT_SITES=() OPT_WITNESSES=() OPT_SET=() OPT_REPMGR_SET=() OPT_POSTGRES_SET=()
OPT_NODES='' OPT_REPMGRD=yes OPT_HAPROXY=yes OPT_WAIT=yes OPT_STATE_FILE='' OPT_TLS='' OPT_SSH='' OPT_PRIMGR_USER=''

parse_up() {
  while (($#)); do
    case $1 in
      --nodes | --names | --site | --primgr-user | --set | --repmgr-set | --postgres-set)
        (($# > 1)) || wrong "$1 wants a value" ;;&
      --nodes) [[ $2 =~ ^[1-9][0-9]?$ ]] || wrong "--nodes: '$2' is no number of nodes"; OPT_NODES=$2; shift ;;
      --names) IFS=, read -r -a OPT_NAMES <<<"$2"; shift ;;
      --site) [[ $2 =~ ^[A-Za-z0-9_.-]+:[1-9][0-9]?$ ]] || wrong "--site: '$2' is not NAME:COUNT"; OPT_SITES+=("$2"); shift ;;
      --witness)
        if [[ ${2:---} == --* ]]; then OPT_WITNESSES+=(''); else OPT_WITNESSES+=("$2"); shift; fi ;;
      --set) [[ $2 == *=* ]] || wrong "--set: '$2' is not 'key = value'"; OPT_SET+=("$2"); shift ;;
      --repmgr-set) [[ $2 == *=* ]] || wrong "--repmgr-set: '$2' is not 'key = value'"; OPT_REPMGR_SET+=("$2"); shift ;;
      --postgres-set) [[ $2 == *=* ]] || wrong "--postgres-set: '$2' is not 'key = value'"; OPT_POSTGRES_SET+=("$2"); shift ;;
      --no-repmgrd) OPT_REPMGRD='' ;;
      --no-haproxy) OPT_HAPROXY='' ;;
      --no-wait) OPT_WAIT='' ;;
      --state-file) OPT_STATE_FILE=1 ;;
      --tls) OPT_TLS=yes ;;
      --ssh) OPT_SSH=yes ;;
      --primgr-user)
        { is_root && id "$2" >/dev/null 2>&1; } || wrong "--primgr-user: there is no user '$2', or this is not root"
        OPT_PRIMGR_USER=$2
        shift ;;
      *) wrong "up: unknown option '$1': see: lab/lab help" ;;
    esac
    shift
  done
}

check_name() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]*$ && $1 != hub ]] || wrong "'$1' will not do as a node's name here"
  ((${#DIR} + ${#1} + 17 < 100)) || wrong "$DIR/$1 is too long for a socket: choose a shorter LAB_DIR"
}

# Settles the number, names and sites of the nodes and writes them to $DIR/nodes.
plan_nodes() {
  local site count=0 i=0 name names=() sites=() kinds=()
  local -A seen=()
  for site in "${OPT_SITES[@]}"; do
    for ((i = 0; i < ${site##*:}; i++)); do sites+=("${site%:*}"); done
  done
  count=${OPT_NODES:-${#sites[@]}}
  ((count)) || count=${#OPT_NAMES[@]}
  ((count)) || count=3
  ((${#sites[@]} == 0 || ${#sites[@]} == count)) || wrong "--nodes $count, but the sites have ${#sites[@]}"
  ((${#OPT_NAMES[@]} == 0 || ${#OPT_NAMES[@]} == count || ${#OPT_NAMES[@]} == count + ${#OPT_WITNESSES[@]})) ||
    wrong "$count nodes, but ${#OPT_NAMES[@]} names"
  ((count + ${#OPT_WITNESSES[@]} < 30)) || wrong "at most 29 nodes"

  for ((i = 0; i < count; i++)); do names+=("${OPT_NAMES[i]:-n$((i + 1))}"); kinds+=(node); : "${sites[i]:=default}"; done
  for site in "${OPT_WITNESSES[@]}"; do
    names+=("${OPT_NAMES[${#names[@]}]:-w$((${#names[@]} + 1))}") kinds+=(witness) sites+=("${site:-${sites[0]}}")
  done

  for ((i = 0; i < ${#names[@]}; i++)); do
    name=${names[i]}
    check_name "$name"
    [[ -z ${seen[$name]:-} ]] || wrong "--names: $name is there twice"
    seen[$name]=1
    if [[ $LAB_NET == netns ]]; then
      describe_in_netns "$((i + 1))" "$name" "${kinds[i]}" "${sites[i]}"
    else
      say "$((i + 1)) $name ${kinds[i]} ${sites[i]} 127.0.0.1 $((BASE_PORT + 2 * i + 2)) $((BASE_PORT + 2 * i + 3)) -"
    fi
  done >"$DIR/nodes"
}

# describe_in_netns ID NAME KIND SITE: its line of $DIR/nodes.
describe_in_netns() { say "$* $NETWORK.$1 5432 5999 $LAB-$2"; }

# ---- up -----------------------------------------------------------------------------------------

of_kind() {
  local name
  for name in "${NODES[@]}"; do
    [[ ${KIND[$name]} == "$1" && $name != "$PRIMARY" ]] && say "$name"
  done
  return 0
}

# in_parallel COMMAND NODE…: runs COMMAND NODE PRIMARY for each; fails if one of them does.
in_parallel() {
  local command=$1 name pids=() pid failed=
  shift
  for name in "$@"; do
    "$command" "$name" "$PRIMARY" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=yes; done
  [[ -z $failed ]]
}

take_lock() {
  mkdir -p "$DIR"
  exec {LOCK}<"$DIR"
  flock "$@" "$LOCK" && [[ $DIR -ef /proc/self/fd/$LOCK ]]
}

is_labs() {
  [[ -e $DIR/nodes || -z $(ls -A "$DIR") ]] || fail "$DIR is not a lab's: choose another LAB_DIR, or remove it by hand"
}

not_up() { [[ ! -e $DIR/up ]] || fail "the lab '$LAB' is up already: LAB=$LAB lab/lab down ends it"; }

# Removes what an `up` that was killed has left; one that is at work is waited for.
clear_stale() (
  is_labs
  take_lock -w 10 || fail "another lab/lab is bringing '$LAB' up or down just now"
  not_up
  tear_down
)

# What was being done side by side would go on, and start commands in a network that is removed meanwhile.
end_workers() {
  local pids try
  for try in {1..100}; do
    mapfile -t pids < <(descendants $$)
    ((${#pids[@]})) || return 0
    printf '%s\n' "${pids[@]}" | kill_all KILL
    sleep 0.01
  done
  say "lab: still at work after $try tries to end them: ${pids[*]}" >&2
}

up_ended() {
  local status=$?
  trap - EXIT
  set +e
  end_workers
  if [[ -e $DIR/lab.log ]]; then
    tail -qn 4 "$DIR"/lab.log "$DIR"/haproxy.lo[g] "$DIR"/*/{primgr,repmgrd}.log >&2
    say "lab: the lab '$LAB' did not come up: the ends of its logs are above" >&2
  fi
  tear_down
  exit "$status"
}

check_up() {
  local program
  [[ $DIR =~ ^/[A-Za-z0-9_./-]+$ && $LAB =~ ^[A-Za-z0-9_.-]+$ ]] || wrong "LAB and LAB_DIR: letters, digits, - _ . only; LAB_DIR from /"
  PGBIN=$(find_bindir)
  [[ -n $PGBIN ]] || fail "no PostgreSQL with repmgr below /usr/lib/postgresql: run: lab/lab deps"
  for program in haproxy ip curl openssl ss setpriv nsenter pgrep; do
    type -P "$program" >/dev/null || fail "$program is missing: run: lab/lab deps"
  done
  [[ -x $PRIMGR ]] || fail "no primgr at $PRIMGR: run make first, or set PRIMGR"
  not_up
}

# Writes what `load` reads, and loads it.
describe_lab() {
  local name
  choose_network
  plan_nodes
  read -r _ PRIMARY _ <"$DIR/nodes"
  {
    for name in LAB_NET HUB_NS WRITE_HOST WRITE_PORT READ_PORT PORTS_LINK PGBIN \
      OPT_REPMGRD OPT_HAPROXY OPT_STATE_FILE OPT_TLS OPT_SSH OPT_PRIMGR_USER; do
      say "$name=${!name}"
    done
    say "OPT_SET=(${OPT_SET[*]@Q}) OPT_REPMGR_SET=(${OPT_REPMGR_SET[*]@Q}) OPT_POSTGRES_SET=(${OPT_POSTGRES_SET[*]@Q})"
  } >"$DIR/lab.conf"
  load
}

# Everything that the servers read.
make_files() {
  local name
  # Copies, since postgres may be unable to read the checkout, and that may be built anew meanwhile.
  cp "$PRIMGR" "$DIR/primgr"
  cp "$DEPLOY/primgr.sql" "$DEPLOY"/examples/{haproxy-reload,haproxy.service.conf} "$DIR"
  haproxy_cfg >"$DIR/haproxy.cfg"
  fill haproxy-lab.cfg >"$DIR/haproxy-lab.cfg"
  fill roles.sql >"$DIR/roles.sql"
  rm -rf "$STATE_DIR"
  mkdir -m 1777 "$STATE_DIR"
  for name in "${NODES[@]}"; do
    mkdir "$DIR/$name"
    configure "$name"
  done
  [[ -z $OPT_TLS ]] || certificates
  [[ -z $OPT_SSH ]] || make_ssh
  chmod 755 "$DIR" "$DIR/primgr"
  ! is_root || chown -R postgres: "$DIR"
}

start_all() {
  local name standbys witnesses
  # primgr first: its voters keep still for one lease, and that passes while the databases are made.
  for name in "${NODES[@]}"; do
    start_daemon primgr "$name"
    [[ -z $OPT_SSH ]] || start_daemon sshd "$name"
  done
  mapfile -t standbys < <(of_kind node)
  mapfile -t witnesses < <(of_kind witness)
  in_parallel init_postgres "${witnesses[@]}" &
  add_primary "$PRIMARY"
  wait $! || fail "cannot make the witness"
  in_parallel add_standby "${standbys[@]}"
  in_parallel add_witness "${witnesses[@]}"
  [[ -z $OPT_HAPROXY ]] || start_daemon haproxy
  if [[ -n $OPT_REPMGRD ]]; then
    for name in "${NODES[@]}"; do start_daemon repmgrd "$name"; done
    wait_for_repmgrd
  fi
  [[ -z $OPT_WAIT ]] || wait_until_settled
}

### The cluster

## up [OPTION]…         3 nodes n1 n2 n3 in the site `default`, unless told
##     --nodes N, --names a,b,c          so many; called so, with --nodes the witnesses after them
##     --site NAME:COUNT                 again for each site
##     --witness [SITE]                  again for each witness
##     --no-repmgrd, --no-haproxy        without them
##     --no-wait                         not until all is as it should be
##     --state-file                      primgr has a state_file
##     --tls                             HTTPS, with certificates made on the spot for nodes and HAProxy
##     --ssh                             an sshd beside each node, for `switchover` (root only)
##     --primgr-user USER                who runs primgr, instead of postgres (root only)
##     --set 'key = value'               again for each line of every primgr.conf
##     --repmgr-set 'key = value'        the same for repmgr.conf
##     --postgres-set 'key = value'      the same for postgresql.conf; in all: %n the node's name, %d its directory,
##                                       %b that of PostgreSQL's programs
verb_up() {
  parse_up "$@"
  check_up
  [[ ! -e $DIR ]] || clear_stale
  take_lock -n || fail "another lab/lab is bringing '$LAB' up or down just now"
  trap up_ended EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  describe_lab
  make_files
  [[ $LAB_NET == loopback ]] || build_network
  start_all
  touch "$DIR/up"
  trap - EXIT
}

# ---- more nodes ---------------------------------------------------------------------------------

# What a node that is added later has instead of make_files and build_network.
prepare_node() {
  mkdir "$DIR/$1"
  configure "$1"
  [[ -z $OPT_TLS ]] || node_certificate "$1"
  [[ -z $OPT_SSH ]] || known_host "$1"
  chown -R postgres: "$DIR/$1"
  connect_node "$1" >>"$DIR/lab.log" 2>&1 || fail "add: see the end of $DIR/lab.log"
}

## add [--witness] [--site SITE] NODE…
##                      more nodes, at once, in namespaces only: made from the primary and registered, then
##                      their primgr is started. In the primary's site unless told. HAProxy knows them after
##                      a `haproxy restart`
verb_add() {
  local name role=node site=''
  need_netns add
  while [[ ${1:-} == --* ]]; do
    case $1 in
      --witness) role=witness ;;
      --site) site=${2:-}; [[ $site =~ ^[A-Za-z0-9_.-]+$ ]] || wrong "--site: '$site' will not do"; shift ;;
      *) wrong "add: unknown option '$1'" ;;
    esac
    shift
  done
  (($#)) || wrong 'add [--witness] [--site SITE] NODE…'
  PRIMARY=$(only_primary add)
  ((${#NODES[@]} + $# < 30)) || wrong "at most 29 nodes"
  for name in "$@"; do
    check_name "$name"
    [[ -z ${ID[$name]:-} ]] || wrong "add: $name is there already"
    describe_in_netns "$((${#NODES[@]} + 1))" "$name" "$role" "${site:-${SITE[$PRIMARY]}}" >>"$DIR/nodes"
    NODES=()
    load
    prepare_node "$name"
  done
  [[ $role == node ]] || in_parallel init_postgres "$@"
  in_parallel "add_${role/node/standby}" "$@" || fail "add: see the end of $DIR/lab.log"
  haproxy_cfg >"$DIR/haproxy.cfg"
  for name in "$@"; do
    start_daemon primgr "$name"
    [[ -z $OPT_SSH ]] || start_daemon sshd "$name"
    [[ -z $OPT_REPMGRD ]] || start_daemon repmgrd "$name"
  done
}

# ---- down ---------------------------------------------------------------------------------------

## down                 end and remove everything; harmless when nothing is up
verb_down() {
  [[ -e $DIR ]] || return 0
  is_labs
  take_lock -w 10 || [[ ! -e $DIR ]] || say "lab: something else still works on '$LAB': ending it all the same" >&2
  tear_down
}

tear_down() {
  local pids=() name deadline=$((SECONDS + 5))
  set +e
  rm -f "$DIR/up"
  LAB_NET=none HUB_NS='' PORTS_LINK=''
  NODES=()
  [[ -r $DIR/lab.conf && -r $DIR/nodes ]] && load
  # An orderly end for the postmasters, who remove their shared memory; nothing else has anything to tidy.
  daemon_pids | kill_all KILL
  for name in "${NODES[@]}"; do
    postgres_pids "$name" | kill_all CONT
    postmaster_pid "$name" | kill_all QUIT
  done
  while mapfile -t pids < <(all_pids) && ((${#pids[@]})); do
    ((SECONDS < deadline)) || printf '%s\n' "${pids[@]}" | kill_all KILL
    sleep 0.02
  done
  for name in "${NODES[@]}"; do forget_shared_memory "$name"; done
  remove_network
  rm -rf "$STATE_DIR"
  # The file that tells a lab's directory goes last, so that a `down` that is killed can be repeated.
  find "$DIR" -mindepth 1 ! -path "$DIR/nodes" -delete
  rm -rf "$DIR"
  set -e
}
