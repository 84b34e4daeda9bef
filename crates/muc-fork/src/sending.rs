//! What clients send to rooms, one kind of stanza a file.

mod iq;
mod message;
mod presence;
