# shellcheck shell=bash
# Part of lab/lab: what configures the servers of a lab. templates/ has the lab's own settings;
# deploy/haproxy.cfg and deploy/primgr.sql are run as they are shipped.

readonly TEMPLATES=$HERE/templates DEPLOY=$HERE/../deploy

# ---- templates ----------------------------------------------------------------------------------

# For state files, on a tmpfs as in the unit: votes need not wait for a disk that the servers keep busy.
readonly STATE_DIR=/dev/shm/primgr-lab-$LAB

# fill TEMPLATE [NODE]: templates/TEMPLATE with each @PLACEHOLDER@ filled in: of those below, the second
# lot only where there is a NODE.
fill() {
  local text key listen=127.0.0.1
  [[ $LAB_NET != netns ]] || listen=0.0.0.0
  local -A value=([LAB_DIR]=$DIR [PGBIN]=$PGBIN [NETWORK]=$NETWORK [LISTEN]=$listen [STATE_DIR]=$STATE_DIR)
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

# set_lines NODE LINE…: the lines with %n, %d and %b filled in.
set_lines() {
  local name=$1 line
  shift
  for line in "$@"; do
    line=${line//%n/"$name"}
    line=${line//%b/"$PGBIN"}
    say "${line//%d/"$DIR/$name"}"
  done
}

key_of() {
  local key=${1%%=*}
  say "${key//[[:space:]]/}"
}

# set_in FILE NODE LINE…: what was asked for with --set, --repmgr-set or --postgres-set goes into FILE, in place of what
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
  local name=$1 dir=$DIR/$1 other owner=()
  fill postgresql.conf "$name" >"$dir/postgresql.conf"
  set_in "$dir/postgresql.conf" "$name" "${OPT_POSTGRES_SET[@]}"
  {
    fill repmgr.conf "$name"
    [[ -z $OPT_SSH ]] || fill repmgr-ssh.conf "$name"
  } >"$dir/repmgr.conf"
  set_in "$dir/repmgr.conf" "$name" "${OPT_REPMGR_SET[@]}"
  # As the shipped unit makes it: primgr's user alone may use it.
  ! is_root || owner=(-o "${OPT_PRIMGR_USER:-postgres}")
  [[ -z $OPT_STATE_FILE ]] || install -d -m 700 "${owner[@]}" "$STATE_DIR/$name.d"
  {
    fill primgr.conf "$name"
    [[ -z $OPT_STATE_FILE ]] || fill primgr-state.conf "$name"
    [[ -z $OPT_TLS ]] || fill primgr-tls.conf "$name"
    # With one address for all, a node is known by its port.
    [[ $LAB_NET == netns ]] || for other in "${NODES[@]}"; do fill primgr-peer.conf "$other"; done
  } >"$dir/primgr.conf"
  set_in "$dir/primgr.conf" "$name" "${OPT_SET[@]}"
}

# ---- the shipped files --------------------------------------------------------------------------

# replace VARIABLE TIMES OLD NEW: the lines OLD, which the VARIABLE must have so many TIMES.
replace() {
  local -n whole=$1
  local old=$'\n'$3$'\n' rest
  rest=${whole//"$old"/}
  (((${#whole} - ${#rest}) == $2 * ${#old})) ||
    fail "deploy/haproxy.cfg has no more what the lab puts addresses into (haproxy_cfg in lab/settings.sh): this, times $2:"$'\n'"$3"
  whole=${whole//"$old"/$'\n'"$4"$'\n'}
}

# deploy/haproxy.cfg, with the addresses of this lab in place of its examples:
#   bind *:5000, bind *:5001              where the lab's HAProxy listens
#   server n1 10.0.0.1:5432 check, …      a line for each node; `port` where its primgr is not on 5999
#   server primary1 10.0.0.1:5432 …       the same for the reads from the primary
#   server-state-file …, stats socket …   in the lab's directory
#   #default-server check-ssl …           with --tls: no comment any more, and the lab's certificates
# Nothing else is changed; `lab shipped` sees to that.
haproxy_cfg() {
  local text servers='' primaries='' name ut='tcp-ut 5s'
  local examples=$'    server n1 10.0.0.1:5432 check\n    server n2 10.0.0.2:5432 check\n    server n3 10.0.0.3:5432 check'
  local tls='default-server check-ssl verify required ca-file' backups=''
  for name in 1 2 3; do backups+="    server primary$name 10.0.0.$name:5432 backup $ut track postgres_write/n$name"$'\n'; done
  [[ -r $DEPLOY/haproxy.cfg ]] || fail "cannot read $DEPLOY/haproxy.cfg"
  text=$'\n'$(<"$DEPLOY/haproxy.cfg")$'\n'
  for name in "${NODES[@]}"; do
    servers+="    server $name ${ADDRESS[$name]}:${PG_PORT[$name]} check"
    [[ ${HTTP_PORT[$name]} == 5999 ]] || servers+=" port ${HTTP_PORT[$name]}"
    servers+=$'\n'
    primaries+="    server primary${ID[$name]} ${ADDRESS[$name]}:${PG_PORT[$name]} backup $ut track postgres_write/$name"$'\n'
  done
  replace text 1 '    bind *:5000' "    bind $WRITE_HOST:$WRITE_PORT"
  replace text 1 '    bind *:5001' "    bind $WRITE_HOST:$READ_PORT"
  replace text 1 "$examples" "${servers%$'\n'}"
  replace text 1 "${examples//check/check $ut}" "$(printf %s "${servers// check/ check $ut}")"
  replace text 1 "${backups%$'\n'}" "${primaries%$'\n'}"
  replace text 1 '    server-state-file /run/haproxy.state' "    server-state-file $DIR/haproxy.state"
  replace text 1 '    stats socket /run/haproxy.sock mode 600 level admin' "    stats socket $DIR/haproxy.sock mode 600 level admin"
  [[ -z $OPT_TLS ]] || replace text 1 "    #$tls /etc/haproxy/primgr-ca.crt crt /etc/haproxy/primgr.pem" \
    "    $tls $DIR/tls/ca.crt crt $DIR/tls/haproxy.pem"
  text=${text#$'\n'}
  printf '%s' "$text"
}

# The role primgr, as an operator makes it.
shipped_role() { psql_on "$1" -q -f "$DIR/primgr.sql" >>"$DIR/lab.log" 2>&1; }

# A configuration of HAProxy with what haproxy_cfg may change reduced to words.
without_addresses() {
  local tls='s/^$//'
  [[ -z $OPT_TLS ]] || tls='s/^    #?(default-server check-ssl verify required ca-file) [^ ]+ crt [^ ]+$/    \1 FILES/'
  sed -E -e 's/^    bind [^ ]+:[0-9]+$/    bind ADDRESS/; s/^(    server-state-file|    stats socket) [^ ]+/\1 FILE/' \
    -e 's/^    server [^ ]+ [^ ]+:[0-9]+ check( tcp-ut 5s)?( port [0-9]+)?$/    server NODE\1/' \
    -e 's/^    server primary[0-9]+ [^ ]+:[0-9]+ backup tcp-ut 5s track postgres_write\/[^ ]+$/    server PRIMARY/' -e "$tls" "$1" | uniq
}

### The files of deploy/

## shipped              whether HAProxy and the role primgr are as deploy/haproxy.cfg and
##                      deploy/primgr.sql have them; the differences, if not
verb_shipped() {
  local primary twin shipped there pid arguments
  if [[ -n $OPT_HAPROXY ]]; then
    pid=$(live_pid haproxy) || fail 'haproxy is not running'
    mapfile -t -d '' arguments <"/proc/$pid/cmdline"
    [[ ${arguments[*]} == *" -f $DIR/haproxy.cfg -f $DIR/haproxy-lab.cfg "* ]] || fail "HAProxy runs something else: ${arguments[*]}"
    diff -u --label deploy/haproxy.cfg --label 'what runs' <(without_addresses "$DEPLOY/haproxy.cfg") <(without_addresses "$DIR/haproxy.cfg") ||
      fail "HAProxy does not run deploy/haproxy.cfg: the differences are above"
  fi
  # In a transaction that is not committed, the shipped file makes a twin of the role. That writes WAL: who
  # kills the primary right after this may find the standbys at different positions.
  primary=$(only_primary shipped)
  twin=$(sed -E '/^COMMIT;$/d; s/\<primgr\>/primgr_shipped/g' "$DEPLOY/primgr.sql")
  [[ $(grep -cx 'COMMIT;' "$DEPLOY/primgr.sql") == 1 && $twin == *$'\nBEGIN;\n'* ]] || fail 'deploy/primgr.sql is no transaction'
  shipped=$(psql_on "$primary" -q -At -v role=primgr_shipped -f - < <(say "$twin"; cat "$HERE/rights.sql"))
  there=$(psql_on "$primary" -q -At -v role=primgr -f - <"$HERE/rights.sql")
  diff -u --label deploy/primgr.sql --label 'what is there' <(say "$shipped") <(say "$there") ||
    fail "the role primgr is not what deploy/primgr.sql makes: the differences are above"
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

node_certificate() { certificate "$DIR/$1/tls" "IP:${ADDRESS[$1]},IP:127.0.0.1"; }

certificates() {
  local name
  for name in "${NODES[@]}"; do node_certificate "$name"; done
  certificate "$DIR/tls/haproxy" DNS:haproxy
  cat "$DIR"/tls/haproxy.{crt,key} >"$DIR/tls/haproxy.pem"
}
