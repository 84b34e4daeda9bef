# Enjamb. `make run` and `make test` install what they need from Debian's packages; all they want is a Rust toolchain.

LUA_VERSION = 5.4
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ROCK = $(VERSION)-1

CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
BUILD = build

# Where `make install` puts things: a luarocks tree. luarocks itself gives LUADIR and LIBDIR. With DEBUG=1 also what
# backtraces take the names of functions from.
TREE ?= $(BUILD)/tree
LUADIR ?= $(TREE)/share/lua/$(LUA_VERSION)
LIBDIR ?= $(TREE)/lib/lua/$(LUA_VERSION)
MANIFEST ?= $(TREE)/lib/luarocks/rocks-$(LUA_VERSION)/manifest

LIBRARY = $(TARGET_DIR)/release/libenjamb.so
# The same without what only debuggers and backtraces want, which is in enjamb.so.debug beside it.
SMALL = $(TARGET_DIR)/release/enjamb.so

.PHONY: all build install install-library run test bench fuzz deny dist deb deb-arm64 rocks test-packages test-everywhere clean

all: build

build:
	$(CARGO) build --release --locked -p enjamb-lua-module
	sh tools/strip.sh $(LIBRARY) $(SMALL)

install: install-library
	install -d $(LUADIR)/mod_smacks $(LUADIR)/mod_minimix $(LUADIR)/mod_muc_enjamb
	install -m 644 lua/mod_smacks/*.lua $(LUADIR)/mod_smacks/
	install -m 644 lua/mod_minimix/*.lua $(LUADIR)/mod_minimix/
	install -m 644 lua/mod_muc_enjamb/*.lua $(LUADIR)/mod_muc_enjamb/
	@$(if $(MANIFEST),sh tools/manifest.sh $(MANIFEST) $(ROCK))

install-library: build
	install -d $(LUADIR) $(LIBDIR)
	install -m 644 lua/enjamb.lua $(LUADIR)/enjamb.lua
	$(if $(wildcard lua/enjamb/*.lua),install -d $(LUADIR)/enjamb && install -m 644 lua/enjamb/*.lua $(LUADIR)/enjamb/)
	install -m 755 $(SMALL) $(LIBDIR)/enjamb.so.new
	mv -f $(LIBDIR)/enjamb.so.new $(LIBDIR)/enjamb.so
	$(if $(DEBUG),install -m 644 $(SMALL).debug $(LIBDIR)/,rm -f $(LIBDIR)/enjamb.so.debug)

# What run and test want of Debian, beside a Rust toolchain.
RUN_PACKAGES = prosody openssl
TEST_PACKAGES = $(RUN_PACKAGES) prosody-modules lua5.4 lua-busted lua-check luarocks liblua5.4-dev lua-dkjson lua-expat lua-filesystem \
	lua-sec lua-socket lua-unbound lua-dbi-postgresql postgresql valgrind python3 python3-venv bc $(NODE_PACKAGES)
# Debian's, unless there is a node already.
NODE_PACKAGES := $(shell command -v npm >/dev/null || echo nodejs npm)

run: packages-run install
	sh tools/run.sh $(TREE) $(BUILD)/run

test: packages-test install $(BUILD)/prosody-13
	sh spec/clients/install.sh $(BUILD)/clients
	bash tools/test.sh $(BUILD)

bench: packages-test install $(BUILD)/prosody-13
	$(CARGO) build --release --locked -p enjamb-load
	python3 bench $(if $(QUICK),--quick) $(if $(CONTINUE),--continue) $(if $(PUBLISH),--publish) $(if $(AGAINST),--against $(AGAINST))

# One target, or all in turns, for so long each. Uses the unstable options that sanitizers need, whatever the toolchain.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS = $(or $(TARGET),$(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs)))

fuzz:
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is not installed: cargo install --locked cargo-fuzz" >&2; exit 1; }
	for target in $(FUZZ_TARGETS); do \
		mkdir -p $(BUILD)/fuzz/$$target; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --features libfuzzer $$target $(BUILD)/fuzz/$$target fuzz/corpus/$$target \
			-- -max_len=1024 -max_total_time=$(or $(SECONDS),$(FUZZ_SECONDS)) || exit 1; \
	done

# Licences, advisories and yanked releases of what is linked: wants a network, so it is no part of test.
deny:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny check

# What is given to others: docs/packages.md.
DIST_PACKAGES = debootstrap git python3 ca-certificates

dist: packages-dist
	sh tools/dist.sh $(BUILD)/dist $(VERSION)

BINARIES = enjamb-$(VERSION)-$(shell uname -m)-linux-gnu

deb: dist
	sh tools/deb.sh $(BUILD)/dist $(BINARIES) $(VERSION)

# The same for ARM, cross-built.
deb-arm64: dist
	sh tools/arm64.sh $(BUILD)/dist $(VERSION)
	sh tools/deb.sh $(BUILD)/dist enjamb-$(VERSION)-aarch64-linux-gnu $(VERSION) arm64 aarch64-linux-gnu

rocks: dist
	python3 tools/rocks.py $(BUILD)/dist/enjamb-$(VERSION).tar.gz $(BUILD)/dist/$(BINARIES).tar.gz $(VERSION) $(BUILD)/rocks

# Installs each from scratch in the Debians that it is for, and uses it.
test-packages: deb rocks
	sh spec/packages/run.sh $(BUILD)/dist $(BINARIES) $(VERSION) $(BUILD)/rocks $(RELEASES)

# In every Prosody that can be had; TRUNK=DIRECTORY has a checkout of it. PUBLISH=1 writes the table into the README.
test-everywhere: dist
	python3 spec/packages/everywhere.py $(if $(TRUNK),--trunk $(TRUNK)) $(if $(PUBLISH),--publish) $(BUILD)/dist/$(BINARIES).tar.gz $(RELEASES)

.PHONY: packages-run packages-test packages-dist $(BUILD)/prosody-13

packages-dist:
	@sh tools/packages.sh $(DIST_PACKAGES)

packages-run:
	@sh tools/packages.sh $(RUN_PACKAGES)

packages-test:
	@sh tools/packages.sh $(TEST_PACKAGES)

# Prosody 13 from bookworm-backports, unpacked beside Debian's own.
$(BUILD)/prosody-13:
	@sh spec/setup-prosody-13.sh $@

clean:
	$(CARGO) clean
	rm -rf $(BUILD)
