# shellcheck shell=bash disable=SC2153
# Part of lab/lab: what `repmgr standby switchover` needs: an sshd beside each node, with keys, settings and known
# hosts of the lab's own. Nothing of /etc/ssh or of a home directory is read or written.

# A folder for all nodes, which share the keys.
make_ssh() {
  local dir=$DIR/ssh name
  need_netns --ssh
  type -P sshd ssh-keygen >/dev/null || fail '--ssh: install openssh-server'
  mkdir "$dir"
  ssh-keygen -q -t ed25519 -N '' -C "lab $LAB" -f "$dir/key"
  ssh-keygen -q -t ed25519 -N '' -C "lab $LAB" -f "$dir/host_key"
  cp "$dir/key.pub" "$dir/authorized_keys"
  fill sshd_config >"$dir/sshd_config"
  fill ssh_config >"$dir/ssh_config"
  for name in "${NODES[@]}"; do known_host "$name"; done
}

known_host() {
  local type key
  read -r type key _ <"$DIR/ssh/host_key.pub"
  say "[${ADDRESS[$1]}]:5022 $type $key" >>"$DIR/ssh/known_hosts"
}

### With `up --ssh`

## switchover NODE [ARG…]
##                      repmgr standby switchover --siblings-follow, over ssh: NODE becomes the primary, the old
##                      primary its standby. The output stays in NODE's switchover.log
verb_switchover() {
  need_node "${1:-}"
  [[ -n $OPT_SSH ]] || fail 'switchover: this lab was not brought up with --ssh'
  local log=$DIR/$1/switchover.log
  # To a file: a connection that ssh keeps for later would hold a pipe of the caller's.
  repmgr_on "$1" standby switchover --siblings-follow "${@:2}" >"$log" 2>&1 || { cat "$log" >&2; fail "switchover: repmgr failed on $1"; }
  cat "$log"
}
