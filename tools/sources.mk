# What the build stands on: packages of the system, and the sources of cpp-httplib and libpq.
#
# Debian's libpq.a cannot be linked statically (GSSAPI and LDAP have no static libraries) and its
# cpp-httplib is a shared library, so both are built from Debian *source* packages, fetched through apt
# with a private sources list and private state below build/: the machine's own apt configuration is
# untouched, and the archive's signature is checked.

# Where the sources come from: suites and their source packages, the first that can be had. Debian's
# stable keeps its version, with security fixes. TESTED: upstream versions, or how they begin.
DEBIAN_MIRROR      = http://deb.debian.org/debian
DEBIAN_SECURITY    = $(DEBIAN_MIRROR)-security
DEBIAN_KEYRING     = /usr/share/keyrings/debian-archive-keyring.gpg
HTTPLIB_SOURCES    = trixie:cpp-httplib
HTTPLIB_TESTED     = 0.18.7
POSTGRESQL_SOURCES = trixie:postgresql-17 forky:postgresql-18
POSTGRESQL_TESTED  = 17 18
# Without network: the folder that holds httplib.h, and an unpacked PostgreSQL source tree.
HTTPLIB_DIR    =
POSTGRESQL_DIR =
export DEBIAN_MIRROR DEBIAN_SECURITY DEBIAN_KEYRING

PACKAGES = g++ pkg-config libssl-dev zlib1g-dev libzstd-dev nlohmann-json3-dev doctest-dev \
           bison flex perl dpkg-dev ca-certificates debian-archive-keyring $(CROSS_COMPILER)

packages: $(B)/packages.stamp ## install the Debian packages that the build needs

$(B)/packages.stamp: tools/sources.mk tools/architectures.mk
	@mkdir -p $(B)
	@tools/install-packages $(PACKAGES)
	@touch $@

# With the sanitizers' and the fuzzer's libraries, which Debian 12 has apart.
$(TOP)/clang.stamp: | $(B)/packages.stamp
	@tools/install-packages clang $$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$$/libclang-rt-\1-dev/p')
	@touch $@

# $(call from,variables' prefix,file): where the source is to be from, and FORCE if the file says that
# what is there is from elsewhere.
from   = $(or $($(1)_DIR),$($(1)_SOURCES)) of $($(1)_TESTED)
forced = $(if $(subst $(call from,$(1)),,$(file <$(2))),FORCE)

$(TOP)/src/httplib.from: $(call forced,HTTPLIB,$(TOP)/src/httplib.from) | $(B)/packages.stamp
	@tools/fetch-source httplib '$(HTTPLIB_TESTED)' '$(HTTPLIB_DIR)' $(HTTPLIB_SOURCES)
	@echo '$(call from,HTTPLIB)' >$@

# Two fetches at once would share apt's lists, hence the other as a prerequisite.
$(TOP)/src/postgresql.from: $(call forced,POSTGRESQL,$(TOP)/src/postgresql.from) | $(TOP)/src/httplib.from
	@tools/fetch-source postgresql '$(POSTGRESQL_TESTED)' '$(POSTGRESQL_DIR)' $(POSTGRESQL_SOURCES)
	@echo '$(call from,POSTGRESQL)' >$@

$(TOP)/httplib/httplib.h: $(TOP)/src/httplib.from
	@mkdir -p $(@D)
	@cp $(TOP)/src/httplib/httplib.h $@

$(B)/libpq/.built: $(TOP)/src/postgresql.from tools/build-libpq | $(SYSROOT:=/.fetched)
	@echo 'primgr: building libpq'
	@tools/build-libpq $(TOP)/src/postgresql $(B)/libpq $(LIBPQ_CONFIGURE)
	@touch $@

sysroot: $(SYSROOT:=/.fetched)
ifneq ($(SYSROOT),)
$(SYSROOT)/.fetched: | $(B)/packages.stamp
	@tools/fetch-sysroot $(ARCH) $(@D) $(SYSROOT_PACKAGES)
	@touch $@
endif
