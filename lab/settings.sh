# shellcheck shell=bash
# Part of lab/lab: what configures the servers of a lab; templates/ has their settings.

readonly TEMPLATES=$HERE/templates

# ---- templates ----------------------------------------------------------------------------------

# fill TEMPLATE [NODE]: templates/TEMPLATE with each @PLACEHOLDER@ filled in: of those below, the second
# lot only where there is a NODE.
fill() {
  local text key listen=127.0.0.1
  [[ $LAB_NET != netns ]] || listen=0.0.0.0
  local -A value=([LAB_DIR]=$DIR [PGBIN]=$PGBIN [NETWORK]=$NETWORK [LISTEN]=$listen)
  (($# == 1)) || value+=([NAME]=$2 [ID]=${ID[$2]} [SITE]=${SITE[$2]} [ADDRESS]=${ADDRESS[$2]} [PORT]=${PG_PORT[$2]}
    [HTTP_PORT]=${HTTP_PORT[$2]} [DIR]=$DIR/$2 [CONNINFO]=$(conninfo_of "$2"))
  [[ -r $TEMPLATES/$1 ]] || fail "cannot read $TEMPLATES/$1"
  text=$(<"$TEMPLATES/$1")
  for key in "${!value[@]}"; do
    [[ $text == *"@$key@"* ]] || continue
    [[ -n ${value[$key]} ]] || fail "lab/templates/$1: @$key@ is empty${2:+ for $2}"
    text=${text//"@$key@"/"${value[$key]}"}
  done
  [[ ! $text =~ @[A-Z_]+@ ]] || fail "lab/templates/$1: nothing is known to fill in for ${BASH_REMATCH[0]}${2:+ of $2}"
  say "$text"
}

# set_lines NODE LINE…: the lines with %n and %d filled in.
set_lines() {
  local name=$1 line
  shift
  for line in "$@"; do
    line=${line//%n/"$name"}
    say "${line//%d/"$DIR/$name"}"
  done
}

key_of() {
  local key=${1%%=*}
  say "${key//[[:space:]]/}"
}

# set_in FILE NODE LINE…: what was asked for with --set or --repmgr-set goes into FILE, in place of what
# is there for the same keys. A key that a template has twice is a mistake there.
set_in() {
  local file=$1 name=$2 line key lines=()
  local -A asked=() seen=()
  shift 2
  for line in "$@"; do asked[$(key_of "$line")]=1; done
  mapfile -t lines <"$file"
  {
    for line in "${lines[@]}"; do
      key=$(key_of "$line")
      [[ -z ${seen[$key]:-} ]] || fail "lab/templates: $key is there twice for $file"
      seen[$key]=1
      [[ -n ${asked[$key]:-} ]] || say "$line"
    done
    set_lines "$name" "$@"
  } >"$file"
}

# The configuration files of a node.
configure() {
  local name=$1 dir=$DIR/$1 other
  fill postgresql.conf "$name" >"$dir/postgresql.conf"
  fill repmgr.conf "$name" >"$dir/repmgr.conf"
  set_in "$dir/repmgr.conf" "$name" "${OPT_REPMGR_SET[@]}"
  {
    fill primgr.conf "$name"
    [[ -z $OPT_STATE_FILE ]] || fill primgr-state.conf "$name"
    [[ -z $OPT_TLS ]] || fill primgr-tls.conf "$name"
    # With one address for all, a node is known by its port.
    [[ $LAB_NET == netns ]] || for other in "${NODES[@]}"; do fill primgr-peer.conf "$other"; done
  } >"$dir/primgr.conf"
  set_in "$dir/primgr.conf" "$name" "${OPT_SET[@]}"
}

# ---- HAProxy --------------------------------------------------------------------------------------

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
