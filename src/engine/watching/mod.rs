//! What people see of the requests that pass: the lines of [`watch`] and the [`events`] they tell of, the most used keys
//! ([`hot_keys`]), and the counts of [`prefixes`].
//!
//! Rule: a request that nobody looks at pays one branch for it.

pub mod events;
pub mod hot_keys;
pub mod observe;
pub mod prefixes;
pub mod watch;
