//! Authentication and authorization.
//!
//! A file lists the [`users`]. Where there is one, a session can do nothing but [`login`] at first; from then on it may
//! do what the [`rights`] of its user say.

pub(super) mod attempts;
pub mod login;
pub mod page_login;
pub mod rights;
pub mod sasl;
pub mod users;
