# primgr: one static binary beside PostgreSQL. `make help` lists the targets.
# What the build stands on, and how it gets there, is in tools/sources.mk; other architectures are in
# tools/architectures.mk; what takes more than a few lines of shell is a script in tools/.

export VERSION = 1.0.0

# What to build for. $(TOP) has the sources that are fetched, $(B) all that is built for ARCH, $(BIN) is
# the program. Another ARCH than this machine's is cross-built: make arm64.
TOP     = build
MACHINE := $(shell dpkg --print-architecture 2>/dev/null)
ARCH     = $(MACHINE)
include tools/architectures.mk
include tools/sources.mk

CXX      = $(TRIPLE:=-)g++
STRIP    = $(TRIPLE:=-)strip
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
CXXFLAGS = -O2 -g -ffunction-sections -fdata-sections -fstack-protector-strong -D_FORTIFY_SOURCE=2
LDFLAGS  = -static -Wl,--gc-sections

# The map keeps the name of this folder out of the program: same sources, same bytes.
STD      = -std=c++20 -pthread -ffile-prefix-map=$(CURDIR)=. -DPRIMGR_VERSION='"$(VERSION)"'
INCLUDES = -I. -I$(TOP) -isystem $(TOP)/httplib -isystem $(B)/libpq/include $(SYSROOT_INCLUDES)
LIBPQ    = $(addprefix $(B)/libpq/lib/,libpq.a libpgcommon_shlib.a libpgport_shlib.a)
FETCHED  = $(TOP)/httplib/httplib.h $(B)/libpq/.built

.DEFAULT_GOAL = all
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: all help packages sysroot install uninstall deb rpm dist check-packages check-deploy \
        check-reproducible check check-alone simulate prove faults harm fuzz sanitize sanitize-lab demo bench outage \
        need-root lab-deps test-deps format clean distclean $(CROSS) $(CROSS:%=check-%) FORCE

all: $(BIN) ## build ./primgr, statically linked, with all it needs fetched on the way

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile tools/sources.mk | expand -t 20
	@printf '%s\tcross-build build/primgr-%s; check-%s runs the tests under qemu\n' $(foreach a,$(CROSS),$(a) $(a) $(a)) | expand -t 20

# ---- compiling ----------------------------------------------------------------------------------

# The units of the program, but for primgr.cpp, and those of the tests, but for tests.cpp.
SOURCES    = $(wildcard $(addsuffix .cpp,* */* */*/*) $(addsuffix .hpp,* */* */*/*))
UNITS      = repmgr_node $(basename $(wildcard base/*.cpp node/*/*.cpp daemon/*/*.cpp))
TEST_UNITS = $(basename $(wildcard tests/*.cpp))
# The search over step(), which the tests run in part.
SEARCH     = $(filter-out prove/core_main,$(basename $(wildcard prove/core_*.cpp)))

# A flavour has flags and a folder of objects of its own: $(call objects,flavour,units).
objects = $(patsubst %,$(B)/$(1)/%.o,$(2))
FLAGS_obj  = $(WARNINGS) $(CXXFLAGS)
# The simulation computes for long; the rest is to compile fast.
FLAGS_test = $(WARNINGS) -g1 $(if $(filter tests/simulation% tests/world%,$<),-O1,-O0)
# With the sanitizers clang compiles in two thirds of the time that g++ takes, which has warned already. The fuzzer is of the same objects.
# Only clang checks which mutex guards what (base/mutex.hpp).
# At -O0 a std::regex of cpp-httplib takes more stack than a client thread has.
ASAN       = -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN       = -fsanitize=thread
FLAGS_asan = -g1 -Wthread-safety -Werror=thread-safety $(if $(filter primgr.cpp,$<),-O1,-O0) $(ASAN) -fsanitize=fuzzer-no-link
FLAGS_tsan = $(filter -g1 -W% -O%,$(FLAGS_asan)) $(TSAN)
compile    = @mkdir -p $(@D) && echo '  CXX     $@' && $(2) $(STD) $(1) $(INCLUDES) -MMD -MP -c -o $@ $<
define flavour
$(B)/$(1)/%.o: %.cpp Makefile $(TOP)/version.stamp $(FETCHED) | $(TOP)/page.html.inc $(3)
	$$(call compile,$$(FLAGS_$(1)),$(2))
endef
$(foreach f,obj test,$(eval $(call flavour,$(f),$$(CXX))))
$(foreach f,asan tsan,$(eval $(call flavour,$(f),clang++,$(TOP)/clang.stamp)))
-include $(wildcard $(addprefix $(B)/,*/*.d */*/*.d */*/*/*.d))

# ld warns that a static glibc would load NSS modules; primgr.cpp sees to it that it does not.
link-static = @echo '  LINK    $@' && $(CXX) -pthread $(LDFLAGS) -o $(1) $^ $(LIBPQ) $(OPENSSL) >$(1).log 2>&1 || { cat $(1).log >&2; exit 1; }
$(BIN): $(call objects,obj,primgr $(UNITS))
	$(call link-static,$(B)/primgr)
	@$(STRIP) -o $@ $(B)/primgr

link-test = @echo '  LINK    $@' && $(1) -pthread -o $@ $^ $(LIBPQ) $(TEST_LIBS)
TESTS_OF  = $(TEST_UNITS) tests
# The sanitizers look at the tests that need no cluster.
ALONE_OF  = primgr $(UNITS) $(SEARCH) $(filter-out $(addprefix tests/,lab_% fault% harm browser cluster_% haproxy_watch row_writers watchers),$(TESTS_OF))
# The units of the program are those of the program itself.
$(B)/tests: $(call objects,obj,primgr $(UNITS) $(SEARCH)) $(call objects,test,$(TESTS_OF))
	$(call link-test,$(CXX))
$(B)/tests-asan: $(call objects,asan,$(ALONE_OF))
	$(call link-test,clang++ $(ASAN))
$(B)/tests-tsan: $(call objects,tsan,$(ALONE_OF))
	$(call link-test,clang++ $(TSAN))
$(B)/primgr-asan: $(call objects,asan,primgr $(UNITS))
	$(call link-test,clang++ $(ASAN))
$(B)/primgr-tsan: $(call objects,tsan,primgr $(UNITS))
	$(call link-test,clang++ $(TSAN))
$(B)/fuzzer: $(call objects,asan,fuzz/fuzz primgr $(UNITS))
	$(call link-test,clang++ $(ASAN) -fsanitize=fuzzer)

$(CROSS):
	@$(MAKE) ARCH=$@ all
$(CROSS:%=check-%): check-%:
	@$(MAKE) ARCH=$* all check-alone

# Changes with VERSION, which is compiled in.
$(TOP)/version.stamp: $(if $(subst $(VERSION),,$(file <$(TOP)/version.stamp)),FORCE)
	@mkdir -p $(@D) && echo '$(VERSION)' >$@

# The page, as a literal that daemon/api/page.cpp includes.
$(TOP)/page.html.inc: web/page.html
	@mkdir -p $(@D)
	@{ printf 'R"page('; cat $<; printf ')page"\n'; } >$@

# ---- installing ---------------------------------------------------------------------------------

PREFIX = /usr/local
install: $(BIN) ## install below PREFIX=/usr/local, for packagers below DESTDIR
	@tools/install-files install $(BIN) '$(DESTDIR)$(PREFIX)' '$(PREFIX)'
uninstall: ## end the service that runs from there, and remove what install put there
	@tools/install-files uninstall '$(DESTDIR)$(PREFIX)'

deb: $(BIN) ## build the Debian package, in build/; ARCH=arm64 for that
	@tools/make-package deb $(BIN) $(ARCH)
rpm: $(BIN) ## build the RPM package, in build/; ARCH=arm64 for that
	@tools/install-packages rpm
	@tools/make-package rpm $(BIN) $(RPM_ARCH)
dist: ## make what a release has, of each architecture that can be built here, in build/dist
	@tools/make-dist $(TOP)/dist $(MACHINE) $(CROSS)

check-packages: primgr ## try the packages in throwaway Debian 12 and 13 roots: install, upgrade, remove, purge
	@deploy/try-packages

PROMTOOL = $(TOP)/promtool/promtool
$(TOP)/promtool/promtool: | $(B)/packages.stamp
	@tools/fetch-promtool $@

check-deploy: primgr $(PROMTOOL) ## check the unit, its sandbox, the man page, the completion, the alerts, install and uninstall
	@tools/check-deploy primgr $(PROMTOOL)

check-reproducible: primgr ## build it again in another folder: the same bytes
	@tools/check-reproducible

# ---- tests --------------------------------------------------------------------------------------

need-root: ; @tools/need-root
lab-deps: ; @lab/lab deps

# Ubuntu has Chromium as a snap only; there the test of the page is skipped.
test-deps: lab-deps
	@tools/install-packages keepalived pgbouncer $$(grep -qx ID=ubuntu /etc/os-release || echo chromium chromium-driver)

# TESTS=… picks some: make check TESTS="-ts=rules".
TESTS      =
check: need-root primgr $(B)/tests test-deps $(PROMTOOL) ## run every test: units, endpoints, and a real cluster
	@tools/check-rooms $(B)/obj
	PROMTOOL=$(PROMTOOL) $(if $(TESTS),$(B)/tests $(TESTS),tools/run-tests $(B)/tests)

SEEDS = 100000
simulate: $(B)/tests ## simulate many clusters in virtual time: SEEDS=100000
	SIM_SEEDS=$(SEEDS) $(B)/tests --test-suite=simulation

# Functions without I/O: neither libraries nor what the program has.
$(B)/prove: $(call objects,obj,prove/prove prove/scopes node/rules/lists)
	@echo '  LINK    $@' && $(CXX) -o $@ $^

# The core, and what it stands on.
PROVED = $(basename $(wildcard node/core/core*.cpp node/rules/*.cpp node/peers/*.cpp)) base/json base/size base/text base/time
$(B)/prove-core: $(call objects,obj,prove/core_main $(SEARCH) $(PROVED))
	@echo '  LINK    $@' && $(CXX) -o $@ $^

MINUTES = 1
prove: $(B)/prove $(B)/prove-core ## search every order of events in small clusters, and find each rule left out, twice: MINUTES=1 each
	$(B)/prove $(MINUTES)
	$(B)/prove-core $(MINUTES)

FAULTS     = 100
NODES      = 3
QUIET      = 60
FAULT_SEED = 1
faults: primgr $(B)/tests lab-deps ## random faults on a real cluster: FAULTS=100 NODES=3 QUIET=60 FAULT_SEED=1 KINDS="kill takeover members"
	KINDS='$(KINDS)' FAULTS=$(FAULTS) NODES=$(NODES) QUIET=$(QUIET) FAULT_SEED=$(FAULT_SEED) $(B)/tests --test-case='faults*'

HARM_SECONDS = 600
harm: primgr $(B)/tests lab-deps ## maltreat a real database, and count what primgr has on it: HARM_SECONDS=600 for each test
	HARM_SECONDS=$(HARM_SECONDS) $(B)/tests --test-case='harm*'

SECONDS   = 60
FUZZ_SEED = 0
FUZZERS   = config reply node grants lists http database
fuzz: $(B)/fuzzer ## fuzz what reads bytes from outside, each for so long: SECONDS=60 FUZZ_SEED=0 (0: any)
	@tools/run-fuzzers $(B)/fuzzer $(SECONDS) $(FUZZ_SEED) $(FUZZERS)

# The tests that need no cluster; few seeds, since an emulator is slow.
check-alone: $(B)/tests
	@$(if $(EMULATOR),tools/install-packages qemu-user)
	SIM_SEEDS=50 $(EMULATOR) $(B)/tests --test-suite-exclude=lab --test-case-exclude='each rule*'

sanitize: $(B)/tests-asan $(B)/tests-tsan ## run the tests that need no cluster under the sanitizers
	for s in asan tsan; do SIM_SEEDS=10 $(B)/tests-$$s --test-suite-exclude=lab --test-case-exclude='each rule*' || exit; done

sanitize-lab: $(B)/tests $(B)/primgr-asan $(B)/primgr-tsan test-deps ## run the cluster tests against a sanitized primgr
	for s in asan tsan; do PRIMGR=$(B)/primgr-$$s $(B)/tests --test-suite=lab || exit; done

demo: primgr lab-deps ## show a failover on a real cluster; KEEP=1 leaves it up
	@KEEP='$(KEEP)' lab/demo

$(B)/bare $(B)/hold $(B)/peers $(B)/outage: $(B)/%: $(B)/obj/bench/%.o
	$(call link-static,$@)
$(B)/outage: $(addprefix $(B)/obj/bench/,watched_cluster.o clients.o)

bench: primgr $(addprefix $(B)/,bare hold peers outage) lab-deps ## measure primgr: PARTS="http idle haproxy peers hold outage" HOLD_SECONDS=60 ROUNDS=10
	@PRIMGR='$(CURDIR)/primgr' TOOLS='$(CURDIR)/$(B)' HOLD_SECONDS='$(HOLD_SECONDS)' ROUNDS='$(ROUNDS)' EVENTS='$(EVENTS)' bench/bench $(PARTS)
outage: ; @$(MAKE) bench PARTS=outage ## measure what clients get while something happens: ROUNDS=10 EVENTS="crash reload"

format: ## reformat the sources
	clang-format -i $(SOURCES)
clean: ## remove what was built, but for the libraries
	rm -rf primgr $(filter-out $(addprefix %/,src apt httplib libpq promtool sysroot try $(CROSS)) %.stamp,$(wildcard $(addprefix $(TOP)/,* $(CROSS:%=%/*))))

distclean: ## remove everything that was built or fetched
	rm -rf primgr $(TOP)
