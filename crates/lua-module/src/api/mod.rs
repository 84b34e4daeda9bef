//! What the shims call through mlua, a file for each table of `enjamb`.

pub mod journal;
pub mod minimix;
pub mod muc;
pub mod smacks;
