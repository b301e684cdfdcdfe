# What primgr can be built for, and what differs from one to another. For a new one, add a line, and try it:
# make <it> check-<it>.
#
# The words of Debian, the compiler, qemu and RPM for it.
ARCHITECTURES = amd64:x86_64-linux-gnu:x86_64:x86_64 \
                arm64:aarch64-linux-gnu:aarch64:aarch64 \
                ppc64el:powerpc64le-linux-gnu:ppc64le:ppc64le \
                riscv64:riscv64-linux-gnu:riscv64:riscv64 \
                s390x:s390x-linux-gnu:s390x:s390x

KNOWN    := $(foreach a,$(ARCHITECTURES),$(firstword $(subst :, ,$(a))))
CROSS    := $(filter-out $(MACHINE),$(KNOWN))
words    := $(subst :, ,$(filter $(ARCH):%,$(ARCHITECTURES)))
RPM_ARCH := $(or $(word 4,$(words)),$(shell uname -m))

ifeq ($(ARCH),$(MACHINE))
B         = $(TOP)
BIN       = primgr
OPENSSL   = $$(pkg-config --static --libs openssl)
# Not linked statically, so that the sanitizers can work.
TEST_LIBS = -lssl -lcrypto
else ifneq ($(words),)
B         = $(TOP)/$(ARCH)
BIN       = $(TOP)/primgr-$(ARCH)
TRIPLE    = $(word 2,$(words))
EMULATOR  = qemu-$(word 3,$(words))
CROSS_COMPILER = g++-$(subst _,-,$(TRIPLE))
# The distribution's own libraries for ARCH, unpacked: the machine's package system does not learn of them.
SYSROOT   = $(CURDIR)/$(B)/sysroot
SYSROOT_PACKAGES = libssl-dev zlib1g-dev libzstd-dev
SYSROOT_INCLUDES = -isystem $(SYSROOT)/usr/include -isystem $(SYSROOT)/usr/include/$(TRIPLE)
OPENSSL   = $$(PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) PKG_CONFIG_LIBDIR=$(SYSROOT)/usr/lib/$(TRIPLE)/pkgconfig pkg-config --static --libs openssl)
TEST_LIBS = $(LDFLAGS) $(OPENSSL)
LIBPQ_CONFIGURE = --host=$(TRIPLE) CPPFLAGS="$(SYSROOT_INCLUDES)" LDFLAGS=-L$(SYSROOT)/usr/lib/$(TRIPLE) LIBS="$(OPENSSL)"
else
$(error ARCH=$(ARCH): what can be built here is $(KNOWN))
endif
