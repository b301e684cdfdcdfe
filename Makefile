# primgr: one static binary beside PostgreSQL. `make help` lists the targets.
#
# Debian's libpq.a cannot be linked statically (GSSAPI and LDAP have no static libraries) and its
# cpp-httplib is too old or a shared library, so both are built from Debian *source* packages, fetched
# through apt with a private sources list and private state below build/: the machine's own apt
# configuration is untouched, and the archive's signature is checked.

VERSION        = 1.0.0

# Where the sources of cpp-httplib and libpq come from.
DEBIAN_MIRROR  = http://deb.debian.org/debian
DEBIAN_SUITE   = forky
DEBIAN_KEYRING = /usr/share/keyrings/debian-archive-keyring.gpg
HTTPLIB_PACKAGE    = cpp-httplib
POSTGRESQL_PACKAGE = postgresql-18
# Without network: the folder that holds httplib.h, and an unpacked PostgreSQL source tree.
HTTPLIB_DIR    =
POSTGRESQL_DIR =

PACKAGES       = g++ pkg-config libssl-dev zlib1g-dev libzstd-dev nlohmann-json3-dev doctest-dev \
                 bison flex perl dpkg-dev ca-certificates debian-archive-keyring

# What to build for, in Debian's words. Another than this machine's is cross-built: make arm64.
MACHINE := $(shell dpkg --print-architecture 2>/dev/null)
ARCH     = $(MACHINE)

# $(TOP) has the sources that are fetched, $(B) all that is built for ARCH, $(BIN) is the program.
TOP      = build
ifeq ($(ARCH),$(MACHINE))
B        = $(TOP)
BIN      = primgr
OPENSSL  = $$(pkg-config --static --libs openssl)
# Not linked statically, so that the sanitizers can work.
TEST_LIBS = -lssl -lcrypto
else ifeq ($(ARCH),arm64)
B        = $(TOP)/arm64
BIN      = $(TOP)/primgr-arm64
TRIPLE   = aarch64-linux-gnu
EMULATOR = qemu-aarch64
PACKAGES += g++-$(TRIPLE)
# Debian's own libraries for ARCH, unpacked: the machine's package system does not learn of them.
SYSROOT  = $(CURDIR)/$(B)/sysroot
SYSROOT_PACKAGES = libssl-dev zlib1g-dev libzstd-dev
SYSROOT_INCLUDES = -isystem $(SYSROOT)/usr/include -isystem $(SYSROOT)/usr/include/$(TRIPLE)
OPENSSL  = $$(PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(TRIPLE)/pkgconfig pkg-config --static --libs openssl)
TEST_LIBS = $(LDFLAGS) $(OPENSSL)
LIBPQ_CONFIGURE = --host=$(TRIPLE) CPPFLAGS="$(SYSROOT_INCLUDES)" LDFLAGS=-L$(SYSROOT)/usr/lib/$(TRIPLE) LIBS="$(OPENSSL)"
else
$(error ARCH=$(ARCH): only $(MACHINE) and arm64 can be built here)
endif

CXX      = $(TRIPLE:=-)g++
STRIP    = $(TRIPLE:=-)strip
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
CXXFLAGS = -O2 -g -ffunction-sections -fdata-sections -fstack-protector-strong -D_FORTIFY_SOURCE=2
LDFLAGS  = -static -Wl,--gc-sections

STD      = -std=c++20 -pthread -DPRIMGR_VERSION='"$(VERSION)"'
INCLUDES = -I. -I$(TOP) -isystem $(TOP)/httplib -isystem $(B)/libpq/include $(SYSROOT_INCLUDES)
LIBPQ    = $(addprefix $(B)/libpq/lib/,libpq.a libpgcommon_shlib.a libpgport_shlib.a)
FETCHED  = $(TOP)/httplib/httplib.h $(B)/libpq/.built

.DELETE_ON_ERROR:
.PHONY: all arm64 help packages install uninstall deb rpm check-packages check-deploy check check-alone check-arm64 \
        simulate faults harm fuzz sanitize sanitize-lab demo bench lab-deps browser-deps format clean distclean

all: $(BIN) ## build ./primgr, statically linked, with all it needs fetched on the way

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# The units of the program, but for primgr.cpp, and those of the tests.
UNITS      = repmgr_node $(basename $(wildcard node/*.cpp daemon/*.cpp))
TEST_UNITS = $(basename $(wildcard tests/*.cpp))

# A flavour has flags and a folder of objects of its own: $(call objects,flavour,units).
objects = $(patsubst %,$(B)/$(1)/%.o,$(2))
FLAGS_obj  = $(WARNINGS) $(CXXFLAGS)
FLAGS_test = $(WARNINGS) -O1 -g -DPRIMGR_NO_MAIN
FLAGS_asan = $(FLAGS_test) $(ASAN)
FLAGS_tsan = $(FLAGS_test) $(TSAN)
FLAGS_fuzz = -O1 -g -DPRIMGR_NO_MAIN -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
ASAN       = -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-maybe-uninitialized
TSAN       = -fsanitize=thread -Wno-maybe-uninitialized
define flavour
$(B)/$(1)/%.o: %.cpp Makefile | $(FETCHED) $(TOP)/page.html.inc
	@mkdir -p $$(@D)
	@echo '  CXX     $$@'
	@$(or $(2),$$(CXX)) $$(STD) $$(FLAGS_$(1)) $$(INCLUDES) -MMD -MP -c -o $$@ $$<
endef
$(foreach f,obj test asan tsan,$(eval $(call flavour,$(f))))
$(eval $(call flavour,fuzz,clang++))
-include $(wildcard $(addprefix $(B)/,*/*.d */*/*.d))

# ld warns that a static glibc would load NSS modules; primgr.cpp sees to it that it does not.
$(BIN): $(call objects,obj,primgr $(UNITS))
	@echo '  LINK    $@'
	@$(CXX) $(CXXFLAGS) -pthread $(LDFLAGS) -o $(B)/primgr $^ $(LIBPQ) $(OPENSSL) >$(B)/link.log 2>&1 || { cat $(B)/link.log >&2; exit 1; }
	@$(STRIP) -o $@ $(B)/primgr

arm64: ## cross-build build/primgr-arm64
	@$(MAKE) ARCH=arm64 all

# The page, as a literal that daemon/page.cpp includes.
$(TOP)/page.html.inc: web/page.html Makefile
	@mkdir -p $(@D)
	@{ printf 'R"page('; cat $<; printf ')page"\n'; } >$@

# ---- what the build stands on -------------------------------------------------------------------

# $(call install,packages): installs those that are missing, through sudo when not root.
define install
missing=''; for p in $(1); do \
  case "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" in installed) ;; *) missing="$$missing $$p";; esac; \
done; \
[ -z "$$missing" ] || { \
  command -v apt-get >/dev/null || { echo "primgr: missing$$missing, and no apt-get to install them: install their like by hand" >&2; exit 1; }; \
  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
  [ -z "$$sudo" ] || command -v sudo >/dev/null || { echo "primgr: missing$$missing: run as root: apt-get install$$missing" >&2; exit 1; }; \
  echo "primgr: installing$$missing"; \
  { $$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } \
    >$(B)/packages.log 2>&1 || { tail -n 3 $(B)/packages.log >&2; \
    echo "primgr: apt-get could not install$$missing (whole output in $(B)/packages.log): install them by hand, then make again" >&2; exit 1; }; \
}
endef

packages: $(B)/packages.stamp ## install the Debian packages that the build needs

$(B)/packages.stamp: Makefile
	@mkdir -p $(B)
	@$(call install,$(PACKAGES))
	@touch $@

# $(call apt,folder): apt-get with a sources.list and state of its own in that folder.
apt = apt-get -q -o Dir::Etc::sourcelist=$(CURDIR)/$(1)/sources.list -o Dir::Etc::sourceparts=- \
      -o Dir::State::Lists=$(CURDIR)/$(1)/lists -o Dir::Cache=$(CURDIR)/$(1)/cache \
      -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any -o Acquire::Retries=3 -o Acquire::http::Timeout=30
# $(call fetch,source package): leaves its unpacked tree in build/src/<source package>.
define fetch
mkdir -p $(TOP)/apt/lists/partial $(TOP)/apt/cache $(TOP)/src; \
echo 'deb-src [signed-by=$(DEBIAN_KEYRING)] $(DEBIAN_MIRROR) $(DEBIAN_SUITE) main' >$(TOP)/apt/sources.list; \
{ $(call apt,$(TOP)/apt) update && \
  cd $(TOP)/apt && rm -f $(1)_*.dsc && $(call apt,$(TOP)/apt) source --download-only --only-source $(1) && \
  rm -rf ../src/$(1) && dpkg-source --no-check -x $(1)_*.dsc ../src/$(1); } >$(TOP)/apt/$(1).log 2>&1 || { \
  grep '^[EW]:' $(TOP)/apt/$(1).log | head -n 3 >&2; \
  echo "primgr: cannot fetch the source of $(1) from $(DEBIAN_MIRROR) $(DEBIAN_SUITE) (whole output in $(TOP)/apt/$(1).log);" \
       "without network: make HTTPLIB_DIR=<folder of httplib.h> POSTGRESQL_DIR=<PostgreSQL source tree>" >&2; exit 1; }
endef

$(TOP)/httplib/httplib.h: | $(B)/packages.stamp
	@mkdir -p $(@D)
ifeq ($(HTTPLIB_DIR),)
	@echo 'primgr: fetching $(HTTPLIB_PACKAGE)'
	@$(call fetch,$(HTTPLIB_PACKAGE))
	@cp $(TOP)/src/$(HTTPLIB_PACKAGE)/httplib.h $@
else
	@[ -r '$(HTTPLIB_DIR)/httplib.h' ] || { echo 'primgr: HTTPLIB_DIR=$(HTTPLIB_DIR) holds no httplib.h' >&2; exit 1; }
	@cp '$(HTTPLIB_DIR)/httplib.h' $@
endif

POSTGRESQL = $(or $(POSTGRESQL_DIR),$(TOP)/src/$(POSTGRESQL_PACKAGE))

# Two fetches at once would share apt's lists, hence the order-only prerequisite.
$(POSTGRESQL)/configure: | $(B)/packages.stamp $(TOP)/httplib/httplib.h
ifeq ($(POSTGRESQL_DIR),)
	@echo 'primgr: fetching $(POSTGRESQL_PACKAGE)'
	@$(call fetch,$(POSTGRESQL_PACKAGE))
else
	@echo 'primgr: POSTGRESQL_DIR=$(POSTGRESQL_DIR) is no PostgreSQL source tree (no configure in it)' >&2; exit 1
endif

$(B)/libpq/.built: | $(B)/packages.stamp $(POSTGRESQL)/configure $(TOP)/httplib/httplib.h $(SYSROOT:=/.fetched)
	@echo 'primgr: building libpq'
# PostgreSQL's makefiles make their generated headers at MAKELEVEL 0 only.
	@mkdir -p $(B)/libpq/obj $(B)/libpq/lib $(B)/libpq/include
	@src=$$(cd '$(POSTGRESQL)' && pwd) && log=$(CURDIR)/$(B)/libpq/build.log && cd $(B)/libpq/obj && { \
	  "$$src/configure" --without-readline --without-zlib --without-icu --with-openssl $(LIBPQ_CONFIGURE) && \
	  env -u MAKELEVEL -u MAKEFLAGS $(MAKE) -j"$$(nproc)" -C src/interfaces/libpq all && \
	  cp src/interfaces/libpq/libpq.a src/common/libpgcommon_shlib.a src/port/libpgport_shlib.a ../lib/ && \
	  cp "$$src"/src/interfaces/libpq/libpq-fe.h "$$src"/src/include/postgres_ext.h ../include/; \
	  } >"$$log" 2>&1 || { tail -n 5 "$$log" >&2; echo "primgr: cannot build libpq (whole output in $$log)" >&2; exit 1; }
	@touch $@

ifneq ($(SYSROOT),)
# From the machine's own suite, since the cross compiler's C library is from there.
$(SYSROOT)/.fetched: | $(B)/packages.stamp
	@echo 'primgr: fetching $(SYSROOT_PACKAGES) for $(ARCH)'
	@mkdir -p $(B)/apt/lists/partial $(B)/apt/cache $(@D) && : >$(B)/apt/status
	@. /etc/os-release; case $$ID in \
	  ubuntu) for s in '' -updates -security; do \
	    echo "deb [signed-by=/usr/share/keyrings/ubuntu-archive-keyring.gpg] http://ports.ubuntu.com/ubuntu-ports $$VERSION_CODENAME$$s main"; done;; \
	  *) echo "deb [signed-by=$(DEBIAN_KEYRING)] $(DEBIAN_MIRROR) $$VERSION_CODENAME main"; \
	    echo "deb [signed-by=$(DEBIAN_KEYRING)] $(DEBIAN_MIRROR)-security $$VERSION_CODENAME-security main";; \
	  esac >$(B)/apt/sources.list
	@log=$(CURDIR)/$(B)/apt/sysroot.log; \
	apt="$(call apt,$(B)/apt) -o APT::Architecture=$(ARCH) -o APT::Architectures=$(ARCH) -o Dir::State::status=$(CURDIR)/$(B)/apt/status"; \
	{ $$apt update && cd $(B)/apt && rm -f *.deb && $$apt download $(SYSROOT_PACKAGES) && \
	  for p in *.deb; do dpkg-deb -x $$p $(@D) || exit 1; done; } >"$$log" 2>&1 || { \
	  grep '^[EW]:' "$$log" | head -n 3 >&2; \
	  echo "primgr: cannot fetch $(SYSROOT_PACKAGES) for $(ARCH) (whole output in $$log)" >&2; exit 1; }
	@touch $@
endif

# ---- installing ---------------------------------------------------------------------------------

PREFIX  = /usr/local
# Below DESTDIR and PREFIX; uninstall removes these, and nothing else. /etc/primgr.conf is yours.
DOC     = share/doc/primgr
INSTALLED = bin/primgr lib/systemd/system/primgr.service share/man/man8/primgr.8 \
            share/bash-completion/completions/primgr $(DOC)/primgr.conf.example $(DOC)/haproxy.cfg \
            $(DOC)/alerts.yml $(DOC)/primgr.sql

install: $(BIN) ## install below PREFIX=/usr/local, for packagers below DESTDIR
	@install -d '$(DESTDIR)$(PREFIX)' && cd '$(DESTDIR)$(PREFIX)' && install -d $(sort $(dir $(INSTALLED))) && \
	install -m 755 '$(CURDIR)/$(BIN)' bin/primgr && \
	install -m 644 '$(CURDIR)/deploy/primgr.8' share/man/man8/ && \
	install -m 644 '$(CURDIR)/deploy/primgr.bash' share/bash-completion/completions/primgr && \
	install -m 644 '$(CURDIR)/primgr.conf.example' '$(CURDIR)/deploy/haproxy.cfg' '$(CURDIR)/deploy/alerts.yml' \
	  '$(CURDIR)/deploy/primgr.sql' $(DOC)/ && \
	sed 's|/usr/local/bin/primgr|$(PREFIX)/bin/primgr|' '$(CURDIR)/deploy/primgr.service' >lib/systemd/system/primgr.service && \
	chmod 644 lib/systemd/system/primgr.service

uninstall: ## remove what install put there
	@[ ! -d '$(DESTDIR)$(PREFIX)' ] || { cd '$(DESTDIR)$(PREFIX)' && rm -f $(INSTALLED) && \
	if [ -d $(DOC) ]; then rmdir --ignore-fail-on-non-empty $(DOC); fi; }

# The packages put it below /usr, with /etc/primgr.conf, which an upgrade keeps as the operator left it.
CONF       = primgr.conf.example
OUT        = $(TOP)
STAGED     = $(CURDIR)/$(B)/package
# The notices of what is linked in.
NOTICES    = $(wildcard $(TOP)/src/*/debian/copyright) $(wildcard $(addsuffix /copyright,$(addprefix \
             /usr/share/doc/,libssl-dev nlohmann-json3-dev libc6-dev g++ zlib1g-dev libzstd-dev)))
define stage
rm -rf $(STAGED) && $(MAKE) -s install PREFIX=/usr DESTDIR=$(STAGED) >/dev/null && \
gzip -9n $(STAGED)/usr/share/man/man8/primgr.8 && install -D -m 644 $(CONF) $(STAGED)/etc/primgr.conf && \
{ cat LICENSE; for f in $(NOTICES); do \
  printf '\n---- linked in, or part of what is linked in: %s\n\n' "$$f"; cat "$$f"; done; } >$(STAGED)/usr/$(DOC)/copyright
endef

deb: $(BIN) ## build the Debian package, in build/; ARCH=arm64 for that
	@$(stage)
	@mkdir -m 755 $(STAGED)/DEBIAN && cd deploy/debian && install -m 755 postinst prerm postrm $(STAGED)/DEBIAN && \
	sed "s/@VERSION@/$(VERSION)/; s/@ARCHITECTURE@/$(ARCH)/" control >$(STAGED)/DEBIAN/control && \
	echo /etc/primgr.conf >$(STAGED)/DEBIAN/conffiles
	@dpkg-deb --root-owner-group -Zxz -b $(STAGED) $(OUT)

rpm: $(BIN) ## build the RPM package, in build/; ARCH=arm64 for that
	@$(call install,rpm)
	@$(stage)
	@rpmbuild -bb --target "$(or $(firstword $(subst -, ,$(TRIPLE))),$$(uname -m))-linux" --define '_topdir $(CURDIR)/$(B)/rpmbuild' --define '_rpmdir $(abspath $(OUT))' \
	  --define '_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm' --define 'version_ $(VERSION)' \
	  --define 'staged $(STAGED)' deploy/primgr.spec >$(B)/rpm.log 2>&1 || { tail $(B)/rpm.log >&2; exit 1; }
	@sed -n 's/^Wrote: /primgr: built /p' $(B)/rpm.log

check-packages: primgr ## try the packages in throwaway Debian 12 and 13 roots: install, upgrade, remove, purge
	@mkdir -p $(B); $(call install,debootstrap rpm)
	@MIRROR='$(DEBIAN_MIRROR)' deploy/try-packages

# This one program: up to Debian 12 it is part of a package that would start a daemon if it were installed.
PROMTOOL = $(TOP)/promtool/promtool
$(TOP)/promtool/promtool: | $(B)/packages.stamp
	@echo 'primgr: fetching promtool'
	@mkdir -p $(@D) && cd $(@D) && rm -f *.deb && sudo= && { [ "$$(id -u)" = 0 ] || sudo=sudo; } && \
	get() { for p in promtool prometheus; do ! apt-get -q -o APT::Sandbox::User=root download $$p || return 0; done; return 1; } && { \
	  { get || { $$sudo apt-get update && get; }; } && \
	  dpkg-deb --fsys-tarfile *.deb | tar -xm --strip-components=3 ./usr/bin/promtool && rm *.deb; \
	} >fetch.log 2>&1 || { grep '^[EW]:' fetch.log | tail -n 3 >&2; \
	echo "primgr: cannot fetch promtool, of the package promtool or prometheus (whole output in $(@D)/fetch.log);" \
	  "another one: make PROMTOOL=<path of promtool>" >&2; exit 1; }

# What an operator copies: the unit (procps: its kill) and the man page are without faults, and
# uninstall undoes install, but for what was there before: the folder with a space has a file of its own.
TRIED = $(CURDIR)/$(B)/staged here
check-deploy: primgr $(PROMTOOL) ## check the unit, its sandbox, the man page, the completion, the alerts, install and uninstall
	@$(call install,systemd man-db procps)
	@rm -rf '$(TRIED)' && mkdir -p '$(TRIED)/usr/bin' && touch '$(TRIED)/usr/bin/other'
	@$(MAKE) -s install DESTDIR='$(TRIED)' PREFIX=/usr
	@cd '$(TRIED)/usr' && for f in $(INSTALLED); do [ -s "$$f" ] || { echo "install left out $$f" >&2; exit 1; }; done
	@grep -qx ExecStart=/usr/bin/primgr '$(TRIED)/usr/lib/systemd/system/primgr.service'
	@sed 's|/usr/bin/primgr|$(CURDIR)/primgr|' '$(TRIED)/usr/lib/systemd/system/primgr.service' >$(B)/primgr.service
	@MANPATH='$(TRIED)/usr/share/man' systemd-analyze verify $(B)/primgr.service 2>&1 | { ! grep primgr.service: ; }
	@systemd-analyze security --no-pager --offline=true --threshold=15 deploy/primgr.service >$(B)/security.log || { tail -n 1 $(B)/security.log; exit 1; }
	@man --warnings -E UTF-8 -l -Tutf8 -Z deploy/primgr.8 2>&1 >/dev/null | { ! grep . ; }
	@bash -n deploy/primgr.bash
	@{ $(PROMTOOL) check rules deploy/alerts.yml && $(PROMTOOL) test rules deploy/alerts.test.yml; } >$(B)/alerts.log 2>&1 || { cat $(B)/alerts.log >&2; exit 1; }
	@for m in $$(grep -o 'primgr_[a-z_]*' deploy/alerts.yml | sort -u); do grep -qF "\"$${m#primgr_}\"" daemon/metrics.cpp daemon/endpoints.cpp || \
	  { echo "deploy/alerts.yml asks for $$m, which primgr does not tell" >&2; exit 1; }; done
	@$(MAKE) -s uninstall DESTDIR='$(TRIED)' PREFIX=/usr
	@left=$$(cd '$(TRIED)' && find . ! -type d -o -path '*/$(DOC)') && [ "$$left" = ./usr/bin/other ] || \
	  { echo "uninstall is to leave ./usr/bin/other alone, and left: $$left" >&2; exit 1; }

# ---- tests --------------------------------------------------------------------------------------

# TESTS=… picks some: make check TESTS="-ts=rules".
TESTS      =
# An unstripped program for testing: $(call test-program,flavour,main unit and others).
define test-program
@echo '  LINK    $@'
@$(CXX) -pthread $(FLAGS_$(1)) -o $@ $(call objects,$(1),$(2) $(UNITS)) $(LIBPQ) $(TEST_LIBS)
endef

$(B)/tests: $(call objects,test,tests primgr $(TEST_UNITS) $(UNITS))
	$(call test-program,test,tests primgr $(TEST_UNITS))
$(B)/tests-asan: $(call objects,asan,tests primgr $(TEST_UNITS) $(UNITS))
	$(call test-program,asan,tests primgr $(TEST_UNITS))
$(B)/tests-tsan: $(call objects,tsan,tests primgr $(TEST_UNITS) $(UNITS))
	$(call test-program,tsan,tests primgr $(TEST_UNITS))

# Sanitized programs for the tests on a cluster: primgr.cpp once more, with its main().
$(B)/asan/main.o $(B)/tsan/main.o: $(B)/%/main.o: primgr.cpp Makefile | $(FETCHED)
	@mkdir -p $(@D)
	@echo '  CXX     $@'
	@$(CXX) $(STD) $(filter-out -DPRIMGR_NO_MAIN,$(FLAGS_$*)) $(INCLUDES) -MMD -MP -c -o $@ $<
$(B)/primgr-asan: $(call objects,asan,main $(UNITS))
	$(call test-program,asan,main)
$(B)/primgr-tsan: $(call objects,tsan,main $(UNITS))
	$(call test-program,tsan,main)

lab-deps:
	@lab/lab deps

# Ubuntu has Chromium as a snap only; there the test of the page is skipped.
browser-deps: lab-deps
	@mkdir -p $(B); . /etc/os-release; [ "$$ID" = ubuntu ] || { $(call install,chromium chromium-driver); }

check: primgr $(B)/tests browser-deps $(PROMTOOL) ## run every test: units, endpoints, and a real cluster
	PROMTOOL=$(PROMTOOL) $(B)/tests $(TESTS)

SEEDS = 100000
simulate: $(B)/tests ## simulate many clusters in virtual time: SEEDS=100000
	SIM_SEEDS=$(SEEDS) $(B)/tests --test-suite=simulation

FAULTS     = 100
NODES      = 3
QUIET      = 60
FAULT_SEED = 1
faults: primgr $(B)/tests lab-deps ## random faults on a real cluster: FAULTS=100 NODES=3 QUIET=60 FAULT_SEED=1
	FAULTS=$(FAULTS) NODES=$(NODES) QUIET=$(QUIET) FAULT_SEED=$(FAULT_SEED) $(B)/tests --test-case='faults*'

HARM_SECONDS = 600
harm: primgr $(B)/tests lab-deps ## maltreat a real database, and count what primgr has on it: HARM_SECONDS=600 for each test
	HARM_SECONDS=$(HARM_SECONDS) $(B)/tests --test-case='harm*'

# clang's libFuzzer; its findings and its growing corpus stay below build/.
SECONDS   = 60
FUZZ_SEED = 0
FUZZERS = config reply node grants http database
$(B)/fuzzer: $(call objects,fuzz,fuzz/fuzz primgr $(UNITS))
	@echo '  LINK    $@'
	@clang++ -pthread -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBPQ) -lssl -lcrypto
fuzz: $(B)/fuzzer ## fuzz what reads bytes from outside, each for so long: SECONDS=60 FUZZ_SEED=0 (0: any)
	@for target in $(FUZZERS); do \
	  mkdir -p $(B)/corpus/$$target; echo "  FUZZ    $$target"; \
	  FUZZ_TARGET=$$target $(B)/fuzzer -seed=$(FUZZ_SEED) -max_total_time=$(SECONDS) -max_len=8192 -timeout=10 -print_final_stats=1 \
	    -artifact_prefix=$(B)/finding-$$target- $(B)/corpus/$$target fuzz/corpus/$$target >$(B)/fuzz-$$target.log 2>&1 \
	    || { tail -n 40 $(B)/fuzz-$$target.log; exit 1; }; \
	  grep -E 'number_of_executed_units' $(B)/fuzz-$$target.log; \
	done

# The tests that need no cluster; few seeds, since an emulator is slow.
check-alone: $(B)/tests
	@$(if $(EMULATOR),$(call install,qemu-user))
	SIM_SEEDS=50 $(EMULATOR) $(B)/tests --test-suite-exclude=lab --test-case-exclude='each rule*'

check-arm64: ## cross-build, and run the tests that need no cluster under qemu
	@$(MAKE) ARCH=arm64 all check-alone

sanitize: $(B)/tests-asan $(B)/tests-tsan ## run the tests that need no cluster under the sanitizers
	SIM_SEEDS=200 $(B)/tests-asan --test-suite-exclude=lab --test-case-exclude='each rule*'
	SIM_SEEDS=200 $(B)/tests-tsan --test-suite-exclude=lab --test-case-exclude='each rule*'

sanitize-lab: $(B)/tests $(B)/primgr-asan $(B)/primgr-tsan browser-deps ## run the cluster tests against a sanitized primgr
	PRIMGR=$(B)/primgr-asan $(B)/tests --test-suite=lab
	PRIMGR=$(B)/primgr-tsan $(B)/tests --test-suite=lab

demo: primgr lab-deps ## show a failover on a real cluster; KEEP=1 leaves it up
	@KEEP='$(KEEP)' lab/demo

# Stripped and linked as primgr is: what cpp-httplib alone can do.
$(B)/bare: bench/bare.cpp Makefile $(FETCHED)
	@echo '  CXX     $@'
	@$(CXX) $(STD) $(WARNINGS) $(CXXFLAGS) $(LDFLAGS) $(INCLUDES) -o $@ $< >$(B)/link.log 2>&1 || { cat $(B)/link.log >&2; exit 1; }
$(B)/hold $(B)/peers: $(B)/%: bench/%.cpp Makefile | $(B)/packages.stamp
	@echo '  CXX     $@'
	@$(CXX) $(STD) $(WARNINGS) $(CXXFLAGS) $(LDFLAGS) -o $@ $<

PARTS        = http idle haproxy peers hold
HOLD_SECONDS = 60
bench: primgr $(B)/bare $(B)/hold $(B)/peers lab-deps ## measure primgr: PARTS="http idle haproxy peers hold" HOLD_SECONDS=60
	@PRIMGR='$(CURDIR)/primgr' TOOLS='$(CURDIR)/$(B)' HOLD_SECONDS='$(HOLD_SECONDS)' bench/bench $(PARTS)

format: ## reformat the sources
	clang-format -i *.cpp *.hpp bench/*.cpp fuzz/*.cpp $(wildcard node/* daemon/* tests/*)

clean: ## remove what was built, but for the libraries
	rm -rf primgr $(B)/obj $(B)/test $(B)/asan $(B)/tsan $(B)/fuzz $(B)/primgr* $(B)/tests* $(B)/bare $(B)/hold $(B)/peers $(B)/package $(B)/staged $(B)/rpmbuild \
	  $(addprefix $(TOP)/arm64/,*.o primgr* tests package rpmbuild)

distclean: ## remove everything that was built or fetched
	rm -rf primgr $(TOP)
