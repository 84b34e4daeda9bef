//! What rooms send to accounts, one kind of stanza a file.

mod presence;
