//! What the shims call through mlua, a file for each table of `enjamb`.

pub mod attributes;
pub mod direct;
pub mod journal;
pub mod minimix;
pub mod muc;
#[cfg(feature = "replica")]
pub mod replica;
pub mod smacks;
