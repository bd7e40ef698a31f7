//! Who may come in, and what they may do.
//!
//! The file of [`users`] says who there is, a session that must [`login`] does nothing else until it has, and what its
//! user may do from then on are its [`rights`].

pub(super) mod attempts;
pub mod login;
pub mod rights;
pub mod users;
