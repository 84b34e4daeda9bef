# Enjamb. `make run` and `make test` install what they need from Debian's packages; all they want is a Rust toolchain.

LUA_VERSION = 5.4
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ROCK = $(VERSION)-1

CARGO ?= cargo
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
BUILD = build

# Where `make install` puts things: a luarocks tree. luarocks itself gives LUADIR and LIBDIR.
TREE ?= $(BUILD)/tree
LUADIR ?= $(TREE)/share/lua/$(LUA_VERSION)
LIBDIR ?= $(TREE)/lib/lua/$(LUA_VERSION)
MANIFEST ?= $(TREE)/lib/luarocks/rocks-$(LUA_VERSION)/manifest

LIBRARY = $(TARGET)/release/libenjamb.so

.PHONY: all build install run test bench clean

all: build

build:
	$(CARGO) build --release --locked -p enjamb-lua-module

install: build
	install -d $(LUADIR)/mod_smacks $(LIBDIR)
	install -m 644 lua/enjamb.lua $(LUADIR)/enjamb.lua
	install -m 644 lua/mod_smacks/mod_smacks.lua $(LUADIR)/mod_smacks/mod_smacks.lua
	install -m 755 $(LIBRARY) $(LIBDIR)/enjamb.so.new
	mv -f $(LIBDIR)/enjamb.so.new $(LIBDIR)/enjamb.so
	@$(if $(MANIFEST),sh tools/manifest.sh $(MANIFEST) $(ROCK))

clean:
	$(CARGO) clean
	rm -rf $(BUILD)
