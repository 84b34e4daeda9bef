//! What rooms send to accounts, one kind of stanza a file.

mod groupchat;
mod iq;
mod message;
mod presence;
