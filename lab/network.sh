# shellcheck shell=bash disable=SC2034,SC2153
# Part of lab/lab: the network. As root each node has a namespace, joined to a bridge in the hub's, where
# HAProxy and the client run; else all are on 127.0.0.1, with ports that no other lab has.

readonly NETWORK=10.99.0 HUB_ADDRESS=10.99.0.254
# A station that nobody has: what is sent there vanishes, as on a broken network.
readonly NOWHERE=02:00:00:00:de:ad

# ---- namespaces, ports --------------------------------------------------------------------------

# in_netns NETNS CMD…: nsenter, since `ip netns exec` and `ip -n` would also make a mount namespace.
in_netns() {
  local netns=$1
  shift
  if [[ $LAB_NET == netns ]]; then nsenter --net="/run/netns/$netns" -- "$@"; else "$@"; fi
}

need_netns() {
  [[ $LAB_NET == netns ]] && return
  printf 'lab: %s needs network namespaces: run the lab as root\n' "$1" >&2
  exit 2
}

can_netns() {
  local probe="lab-probe-$$"
  is_root && [[ ${LAB_NET:-netns} == netns ]] || return
  # Whoever ends this shell meanwhile has to wait until the probe is gone.
  (trap '' INT TERM HUP; ip netns add "$probe" 2>/dev/null && ip netns del "$probe") &&
    nsenter --net=/proc/self/ns/net true 2>/dev/null
}

# Reserves 64 ports that no other lab has and nobody listens on; a link to a lab that is gone is void.
reserve_ports() {
  local base listening link
  listening=$(ss -Hltn | sed 's/^[^ ]* *[^ ]* *[^ ]* *[^ ]*:\([0-9]*\) .*/\1/')
  for ((base = 20000; base < 32000; base += 64)); do
    link=${TMPDIR:-/tmp}/primgr-lab-ports-$base
    [[ ! -L $link || -e $link ]] || rm -f "$link"
    ports_free "$base" "$listening" || continue
    ln -sT "$DIR" "$link" 2>/dev/null || continue
    BASE_PORT=$base PORTS_LINK=$link
    return
  done
  fail "no 64 free ports between 20000 and 32000: end another lab"
}

ports_free() {
  local port
  for port in $2; do ((port < $1 || port >= $1 + 64)) || return 1; done
}

# Settles which network there is, and where HAProxy listens.
choose_network() {
  LAB_NET=${LAB_NET:-} BASE_PORT=0 PORTS_LINK=''
  if can_netns; then
    LAB_NET=netns HUB_NS=$LAB-hub WRITE_HOST=$HUB_ADDRESS WRITE_PORT=5000 READ_PORT=5001
  else
    LAB_NET=loopback HUB_NS=- WRITE_HOST=127.0.0.1
    reserve_ports
    WRITE_PORT=$BASE_PORT READ_PORT=$((BASE_PORT + 1))
  fi
}

build_network() {
  local name
  {
    ip netns add "$HUB_NS"
    in_netns "$HUB_NS" ip -batch - <<BATCH
link set lo up
link add br0 address 02:00:00:00:00:fe type bridge
link set br0 up
addr add $HUB_ADDRESS/24 dev br0
BATCH
    for name in "${NODES[@]}"; do connect_node "$name"; done
  } >>"$DIR/lab.log" 2>&1 || fail "cannot build the network: see above"
}

# A namespace for a node, joined to the bridge.
connect_node() {
  ip netns add "${NETNS[$1]}"
  in_netns "$HUB_NS" ip -batch - <<BATCH
link add v${ID[$1]} type veth peer name eth0 netns ${NETNS[$1]}
link set v${ID[$1]} master br0 up
BATCH
  in_netns "${NETNS[$1]}" ip -batch - <<BATCH
link set lo up
addr add ${ADDRESS[$1]}/24 dev eth0
link set eth0 up
BATCH
}

remove_network() {
  local name
  for name in "${NODES[@]}"; do
    [[ $LAB_NET == netns && -e /run/netns/${NETNS[$name]} ]] && ip netns del "${NETNS[$name]}"
  done
  [[ $LAB_NET == netns && -e /run/netns/$HUB_NS ]] && ip netns del "$HUB_NS"
  [[ -z $PORTS_LINK || $(readlink "$PORTS_LINK") != "$DIR" ]] || rm -f "$PORTS_LINK"
}

# ---- cuts ---------------------------------------------------------------------------------------

need_end() { [[ ${1:-} == hub ]] || need_node "${1:-}"; }
netns_of() { if [[ $1 == hub ]]; then say "$HUB_NS"; else say "${NETNS[$1]}"; fi; }
address_of() { if [[ $1 == hub ]]; then say "$HUB_ADDRESS"; else say "${ADDRESS[$1]}"; fi; }
device_of() { if [[ $1 == hub ]]; then say br0; else say eth0; fi; }

# What FROM sends to TO goes nowhere, and FROM is told nothing.
drop() {
  in_netns "$(netns_of "$1")" ip neigh replace "$(address_of "$2")" lladdr "$NOWHERE" dev "$(device_of "$1")" nud permanent
}

undrop() {
  in_netns "$(netns_of "$1")" ip neigh del "$(address_of "$2")" dev "$(device_of "$1")" 2>/dev/null || true
}

# port NODE STATE: its port on the bridge passes nothing (0) or everything (3).
port() { in_netns "$HUB_NS" bridge link set dev "v${ID[$1]}" state "$2"; }

### The network, in namespaces only

## cut NODE             its network is gone
## cut NODE OTHER [--oneway]
##                      nothing passes from NODE to OTHER (a node, or hub: HAProxy and the client), nor back
##                      unless --oneway
verb_cut() {
  (($#)) || wrong 'cut NODE [OTHER [--oneway]]'
  need_netns cut
  if (($# == 1)); then
    need_node "$1"
    port "$1" 0
    return
  fi
  need_end "$1"
  need_end "$2"
  [[ $1 != "$2" ]] || wrong "cut: $1 from itself?"
  [[ -z ${3:-} || $3 == --oneway ]] || wrong "cut NODE OTHER [--oneway]"
  drop "$1" "$2"
  [[ -n ${3:-} ]] || drop "$2" "$1"
}

## heal [NODE [OTHER]]  undo that
verb_heal() {
  local a b
  need_netns heal
  if (($# == 2)); then
    need_end "$1"
    need_end "$2"
    undrop "$1" "$2"
    undrop "$2" "$1"
    return
  fi
  (($# == 0)) || need_node "$1"
  for a in "${@:-${NODES[@]}}"; do
    port "$a" 3
    for b in "${NODES[@]}" hub; do
      [[ $a == "$b" ]] || { undrop "$a" "$b"; undrop "$b" "$a"; }
    done
  done
}

## partition a,b / c,d [--hub first|second]
##                      nothing passes between these groups; the hub is in the first unless told
verb_partition() {
  local groups first second a b
  need_netns partition
  groups=$*
  [[ $groups == *' --hub second' ]] && groups=${groups% --hub second} b=second
  [[ $groups == *' --hub first' ]] && groups=${groups% --hub first}
  [[ $groups == */* ]] || wrong 'partition a,b / c,d [--hub first|second]'
  IFS=', ' read -r -a first <<<"${groups%%/*}"
  IFS=', ' read -r -a second <<<"${groups#*/}"
  for a in "${first[@]}" "${second[@]}"; do need_node "$a"; done
  if [[ ${b:-} == second ]]; then second+=(hub); else first+=(hub); fi
  for a in "${first[@]}"; do
    for b in "${second[@]}"; do
      drop "$a" "$b"
      drop "$b" "$a"
    done
  done
}

### A command in the network

## exec CMD…            in the hub
verb_exec() { in_netns "$HUB_NS" "$@"; }

## exec-node NODE CMD…  beside the node
verb_exec_node() {
  need_node "${1:-}"
  in_netns "${NETNS[$1]}" "${@:2}"
}
