//! Where Lua calls without mlua in between: all `unsafe` of the crate, with the invariants written down beside it.

pub mod number;
pub mod push;
pub mod walk;
