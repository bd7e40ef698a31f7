//! Dialogues: what they are made of, and the peers they are held with.

pub(crate) mod bare;
#[path = "../tls/mod.rs"]
pub(crate) mod certificates;
pub(crate) mod connection;
pub(crate) mod differences;
pub(crate) mod packet;
pub(crate) mod pattern;
pub(crate) mod socket;
pub(crate) mod text;
pub(crate) mod walk;
