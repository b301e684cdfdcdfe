# shellcheck shell=bash
# Part of lab/lab: the packages that it stands on.

have_deps() {
  [[ -n $(find_bindir) ]] && type -P haproxy ip bridge ss curl openssl setpriv nsenter ipcrm >/dev/null
}

### Packages

## deps                 install what is missing, with apt
verb_deps() {
  local sudo=() log
  ! have_deps || return 0
  type -P apt-get >/dev/null || fail "no apt-get here: install PostgreSQL, repmgr, haproxy, iproute2, curl and openssl by hand"
  is_root || { type -P sudo >/dev/null || fail "packages are missing: run as root: lab/lab deps"; sudo=(sudo); }
  log=$(mktemp)
  say "lab: installing PostgreSQL, repmgr and HAProxy"
  "${sudo[@]}" bash -c "$(declare -f install_packages); install_packages" </dev/null >"$log" 2>&1 || {
    tail -n 4 "$log" >&2
    fail "apt-get could not install them (whole output: $log): install PostgreSQL, repmgr, haproxy, iproute2, curl and openssl by hand"
  }
  rm -f "$log"
  have_deps || fail "the packages are installed, but no PostgreSQL below /usr/lib/postgresql has repmgr"
}

# Runs as root. The packages' own servers must neither start nor be there at the next boot, and a
# default database cluster must not be made; whatever stands in the way of that is put back.
# shellcheck disable=SC2317
install_packages() {
  set -e
  export DEBIAN_FRONTEND=noninteractive
  policy=/usr/sbin/policy-rc.d create=/etc/postgresql-common/createcluster.conf saved=$(mktemp -d)
  undo() {
    for file in "$policy" "$create"; do
      rm -f "$file"
      [ ! -e "$saved/${file##*/}" ] || mv "$saved/${file##*/}" "$file"
    done
    rmdir "$saved"
  }
  apt-get update
  version=$(apt-cache search --names-only '^postgresql-[0-9]+-repmgr$' | sort -V | tail -n 1 | sed 's/^postgresql-\([0-9]*\).*/\1/')
  [ -n "$version" ] || { echo 'no package postgresql-NN-repmgr in the sources of apt'; exit 1; }
  [ -e /etc/init.d/haproxy ] && had_haproxy=yes || had_haproxy=

  # This one alone makes no cluster, and brings the file that says whether the next one shall.
  apt-get install -y --no-install-recommends --no-upgrade postgresql-common
  trap undo EXIT
  [ ! -e "$policy" ] || mv "$policy" "$saved/"
  [ ! -e "$create" ] || mv "$create" "$saved/"
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  echo 'create_main_cluster = false' >"$create"
  apt-get install -y --no-install-recommends --no-upgrade "postgresql-$version" "postgresql-$version-repmgr" \
    haproxy iproute2 curl openssl util-linux procps
  [ -n "$had_haproxy" ] || update-rc.d haproxy disable || true
}
