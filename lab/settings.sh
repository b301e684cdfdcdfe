# shellcheck shell=bash
# Part of lab/lab: what configures the servers of a lab.

# set_lines NODE LINE…: the lines with %n and %d filled in.
set_lines() {
  local name=$1 line
  shift
  for line in "$@"; do
    line=${line//%n/$name}
    say "${line//%d/"$DIR/$name"}"
  done
}

primgr_conf() {
  local name=$1 other line
  local -A given=()
  for line in "${OPT_SET[@]}"; do line=${line%%=*}; given[${line// /}]=1; done
  {
    say "conninfo = host=$DIR/$name port=${PG_PORT[$name]} dbname=repmgr user=primgr"
    say "repmgr_conf = $DIR/$name/repmgr.conf"
    [[ -z $OPT_STATE_FILE ]] || say "state_file = $DIR/$name/grants"
    if [[ -n $OPT_TLS ]]; then
      say "tls_cert = $DIR/$name/tls.crt"
      say "tls_key = $DIR/$name/tls.key"
      say "tls_ca = $DIR/tls/ca.crt"
    fi
    if [[ $LAB_NET == netns ]]; then
      say "listen = 0.0.0.0:${HTTP_PORT[$name]}"
    else
      say "listen = 127.0.0.1:${HTTP_PORT[$name]}"
      for other in "${NODES[@]}"; do say "peer.$other = 127.0.0.1:${HTTP_PORT[$other]}"; done
    fi
  } | while read -r line; do
    # primgr refuses a key that is there twice: what was asked for with --set goes first.
    [[ -n ${given[${line%% =*}]:-} ]] || say "$line"
  done
  set_lines "$name" "${OPT_SET[@]}"
}

repmgr_conf() {
  local name=$1 conf="$DIR/$1/repmgr.conf" repmgr="$PGBIN/repmgr"
  cat <<CONF
node_id=${ID[$name]}
node_name='$name'
location='${SITE[$name]}'
conninfo='host=${ADDRESS[$name]} port=${PG_PORT[$name]} user=repmgr dbname=repmgr connect_timeout=2'
data_directory='$DIR/$name/data'
pg_bindir='$PGBIN'
pg_ctl_options='-s -l $DIR/$name/postgresql.log'
log_level=INFO
failover=automatic
promote_command='$repmgr standby promote -f $conf'
follow_command='$repmgr standby follow -f $conf --upstream-node-id=%n'
monitor_interval_secs=1
connection_check_type=ping
reconnect_attempts=2
reconnect_interval=1
primary_notification_timeout=5
node_rejoin_timeout=8
election_rerun_interval=3
repmgrd_standby_startup_timeout=10
node_rejoin_timeout=30
CONF
  set_lines "$name" "${OPT_REPMGR_SET[@]}"
}

postgresql_conf() {
  local name=$1 listen=${ADDRESS[$1]}
  [[ $LAB_NET == netns ]] && listen+=,127.0.0.1
  cat <<CONF
cluster_name = '$name'
listen_addresses = '$listen'
port = ${PG_PORT[$name]}
unix_socket_directories = '$DIR/$name'
shared_preload_libraries = 'repmgr'
wal_level = replica
hot_standby = on
wal_log_hints = on
max_wal_senders = 40
max_replication_slots = 20
max_connections = 100
wal_keep_size = 256MB
min_wal_size = 32MB
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
shared_buffers = 16MB
# Nothing of a killed server shall stay in /dev/shm.
dynamic_shared_memory_type = mmap
# Throwaway: what survives a crash of the machine does not matter.
fsync = off
log_line_prefix = '%m [%p] %u %a '
CONF
}

haproxy_cfg() {
  local name tls=''
  [[ -z $OPT_TLS ]] || tls=" check-ssl verify required ca-file $DIR/tls/ca.crt crt $DIR/tls/haproxy.pem"
  cat <<CFG
global
    log stdout format raw local0
    maxconn 1000
    stats socket $DIR/haproxy.admin mode 600 level admin

defaults
    mode tcp
    log global
    option log-health-checks
    timeout connect 1s
    timeout check   1s
    timeout client  1h
    timeout server  1h
    default-server check inter 500ms fastinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions$tls

CFG
  # The write port as HAProxy checks by default, the read port by lag.
  for proxy in "write $WRITE_PORT" "read $READ_PORT OPTIONS /replica?lag=4MB&delay=10s"; do
    read -r name port check <<<"$proxy"
    say "listen $name"
    say "    bind $WRITE_HOST:$port"
    # In `defaults` it would send no request: HAProxy 2.6 then checks with the expect rule alone.
    say "    option httpchk $check"
    say "    http-check expect status 200"
    for node in "${NODES[@]}"; do
      say "    server $node ${ADDRESS[$node]}:${PG_PORT[$node]} port ${HTTP_PORT[$node]}"
    done
    say
  done
  cat <<CFG
frontend stats
    mode http
    no log
    bind unix@$DIR/haproxy.stats mode 666
    stats enable
    stats uri /
CFG
}

# ---- certificates -------------------------------------------------------------------------------

# A certificate for $1 (its files: $1.crt and $1.key), signed by the lab's own authority, with the
# subjectAltName $2.
certificate() {
  local new=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
  if [[ ! -e $DIR/tls ]]; then
    mkdir "$DIR/tls"
    openssl req -x509 "${new[@]}" -days 2 -subj "/CN=lab $LAB" -keyout "$DIR/tls/ca.key" -out "$DIR/tls/ca.crt"
  fi
  openssl req "${new[@]}" -subj "/CN=${1##*/}" -addext "subjectAltName=$2" -keyout "$1.key" -out "$1.csr"
  openssl x509 -req -days 2 -copy_extensions copy -in "$1.csr" -out "$1.crt" \
    -CA "$DIR/tls/ca.crt" -CAkey "$DIR/tls/ca.key" -CAcreateserial
} >>"$DIR/lab.log" 2>&1

certificates() {
  local name
  for name in "${NODES[@]}"; do certificate "$DIR/$name/tls" "IP:${ADDRESS[$name]},IP:127.0.0.1"; done
  certificate "$DIR/tls/haproxy" DNS:haproxy
  cat "$DIR"/tls/haproxy.{crt,key} >"$DIR/tls/haproxy.pem"
}
