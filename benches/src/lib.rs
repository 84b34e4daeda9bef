//! What the engines cost, without Lua and without a server: `cargo bench -p enjamb-benches`, or `--bench journal` for one of them.
//!
//! For the work on an engine, to compare before and after on one machine. What a whole server costs is measured by
//! `make bench`.
