//! What clients send to rooms, one kind of stanza a file.

pub(crate) mod presence;
