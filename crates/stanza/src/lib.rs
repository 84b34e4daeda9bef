//! The wire bytes of one stanza.
//!
//! A stanza is serialised once; from then on it is these bytes. This crate knows how they are written ([`mod@write`]), what
//! an engine must remember of the stanza they came from ([`Summary`]), how a copy is made for another transport or another
//! time ([`resent`]) or for somebody else ([`splice`]), and what its children are ([`read`]). It knows nothing of Lua, of
//! streams or of queues: whoever walks a tree calls [`mod@write`] for each part of it.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod read;
pub mod resent;
pub mod splice;
pub mod summary;
pub mod write;

pub use resent::{Delay, Resent};
pub use splice::{Attribute, Splice};
pub use summary::{Kind, Name, Summary};
