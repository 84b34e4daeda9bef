# Enjamb. `make run` and `make test` install what they need from Debian's packages; all they want is a Rust toolchain.

# The Lua that Prosody runs on: 5.1, jit (LuaJIT, at 5.1's place), 5.2, 5.3, 5.4 or 5.5.
LUA = 5.4
LUA_VERSION = $(patsubst jit,5.1,$(LUA))
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

LIBRARY = $(TARGET_DIR)/release/libenjamb_library.so
# The same without what only debuggers and backtraces want, which is in enjamb.so.debug beside it.
SMALL = $(TARGET_DIR)/release/$(if $(OTHER_LUA),lua-$(LUA)/)enjamb.so
# Which Lua that is for. Libraries for all of them have one name, and cargo takes any that is there for the one that is wanted.
FOR_LUA = $(TARGET_DIR)/release/enjamb.lua-version
OTHER_LUA = $(filter-out 5.4,$(LUA))
FEATURES = $(if $(OTHER_LUA),--no-default-features --features lua$(subst .,,$(LUA)))
# The one with a replica is for Lua 5.4; REPLICA= leaves it out.
REPLICA ?= 1
WITH_REPLICA = $(if $(OTHER_LUA),,$(REPLICA))
LIBRARY_WITH_REPLICA = $(TARGET_DIR)/release/libenjamb_library_with_replica.so
SMALL_WITH_REPLICA = $(TARGET_DIR)/release/enjamb-replica.so

.PHONY: all build install install-library run test test-clients test-lua bench fuzz deny dist deb deb-arm64 rocks test-packages test-everywhere test-in clean

all: build

build:
	@[ "$$(cat $(FOR_LUA) 2>/dev/null || echo 5.4)" = $(LUA) ] || rm -f $(LIBRARY) $(SMALL) $(TARGET_DIR)/release/deps/libenjamb_library.*
	@mkdir -p $(dir $(SMALL)) && echo $(LUA) >$(FOR_LUA)
	$(CARGO) build --release --locked -p enjamb-library $(FEATURES)
	sh tools/strip.sh $(LIBRARY) $(SMALL)
ifneq ($(WITH_REPLICA),)
	$(CARGO) build --release --locked -p enjamb-library-with-replica
	sh tools/strip.sh $(LIBRARY_WITH_REPLICA) $(SMALL_WITH_REPLICA)
endif

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
ifneq ($(WITH_REPLICA),)
	install -m 755 $(SMALL_WITH_REPLICA) $(LIBDIR)/enjamb-replica.so.new
	mv -f $(LIBDIR)/enjamb-replica.so.new $(LIBDIR)/enjamb-replica.so
	$(if $(DEBUG),install -m 644 $(SMALL_WITH_REPLICA).debug $(LIBDIR)/,rm -f $(LIBDIR)/enjamb-replica.so.debug)
endif

# What run and test want of Debian, beside a Rust toolchain.
RUN_PACKAGES = prosody openssl
TEST_PACKAGES = $(RUN_PACKAGES) prosody-modules lua5.4 lua-busted lua-check luarocks liblua5.4-dev lua-dkjson lua-expat lua-filesystem \
	lua-sec lua-socket lua-unbound lua-dbi-postgresql postgresql valgrind python3 python3-venv bc $(NODE_PACKAGES)
# Debian's, unless there is a node already.
NODE_PACKAGES := $(shell command -v npm >/dev/null || echo nodejs npm)

# Clients of other people's making. Not every Debian has each: without one, its test says so.
CLIENT_PACKAGES = python3-nbxmpp python3-aioxmpp
HEAVY_CLIENT_PACKAGES = profanity chromium
LUA_PACKAGES = lua5.1 luajit lua5.2 lua5.3 lua-busted lua-expat lua-filesystem valgrind

run: packages-run install
	sh tools/run.sh $(TREE) $(BUILD)/run

test: packages-test packages-clients install $(BUILD)/prosody-13
	sh spec/clients/install.sh $(BUILD)/clients
	bash tools/test.sh $(BUILD)

# Every client that other people wrote and that can be had, the heavy ones too (a browser): docs/clients.md.
test-clients: packages-test packages-clients packages-clients-heavy install $(BUILD)/prosody-13
	sh spec/clients/install.sh $(BUILD)/clients
	ENJAMB_TREE=$(BUILD)/tree ENJAMB_PROSODY13=$(BUILD)/prosody-13/root ENJAMB_CLIENTS=$(BUILD)/clients ENJAMB_CLIENTS_ALL=1 \
		sh tools/specs.sh $(BUILD)/specs-clients spec/clients/*_spec.lua

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

# The library in each other Lua that Debian has; for 5.5, which it has not, whether it compiles.
test-lua: packages-lua
	for lua in 5.1 jit 5.2 5.3; do \
		$(MAKE) -s install LUA=$$lua TREE=$(BUILD)/lua-$$lua && \
		sh tools/lua-test.sh $$lua $(BUILD)/lua-$$lua $(TARGET_DIR)/release/lua-$$lua/enjamb.so.debug || exit 1; \
	done
	$(CARGO) check --release --locked --quiet -p enjamb-library --no-default-features --features lua55

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

# `make test` in another Debian; nothing of this one is there but the Rust toolchain and what cargo has.
test-in: packages-dist
	for release in $(or $(RELEASES),trixie); do sh spec/packages/whole.sh $$release || exit 1; done

.PHONY: packages-run packages-test packages-lua packages-clients packages-clients-heavy packages-dist $(BUILD)/prosody-13

packages-dist:
	@sh tools/packages.sh $(DIST_PACKAGES)

packages-run:
	@sh tools/packages.sh $(RUN_PACKAGES)

packages-test:
	@sh tools/packages.sh $(TEST_PACKAGES)

packages-clients:
	@for package in $(CLIENT_PACKAGES); do sh tools/packages.sh $$package || echo "left out: $$package"; done

packages-clients-heavy:
	@for package in $(HEAVY_CLIENT_PACKAGES); do sh tools/packages.sh $$package || echo "left out: $$package"; done

packages-lua:
	@sh tools/packages.sh $(LUA_PACKAGES)

# Prosody 13 from bookworm-backports, unpacked beside Debian's own.
$(BUILD)/prosody-13:
	@sh spec/setup-prosody-13.sh $@

clean:
	$(CARGO) clean
	rm -rf $(BUILD)
