//! Where Lua calls without mlua in between: all `unsafe` of the crate, with the invariants written down beside it.

pub mod groupchat;
pub mod push;
mod strings;
