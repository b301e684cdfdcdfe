# shellcheck shell=bash
# Part of lab/lab: the packages that it stands on.

have_deps() {
  [[ -n $(find_bindir) ]] && type -P haproxy ip bridge ss curl openssl setpriv nsenter ipcrm pgrep >/dev/null
}

### Packages

## deps                 install what is missing, with apt
verb_deps() {
  local install=$HERE/../tools/install-packages repmgr
  ! have_deps || return 0
  "$install" postgresql-common haproxy iproute2 curl openssl util-linux procps
  # The distribution's, by the name that has PostgreSQL's version: that one is known to make no cluster.
  repmgr=$(apt-cache depends repmgr | sed -n 's/^ *Depends: \(postgresql-[0-9]*-repmgr\)$/\1/p')
  "$install" "${repmgr:-repmgr}"
  have_deps || fail "the packages are installed, but no PostgreSQL below /usr/lib/postgresql has repmgr"
}
