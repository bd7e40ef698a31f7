//! Living through abuse: what hostile or broken surroundings may do, while a normal client goes on working.
//!
//! What is asserted does not depend on how quick the machine is: nothing of the normal client's is lost, memory stays
//! within its bounds, and all of it comes back when the abuse ends. How much slower the normal client gets is measured by
//! `cargo bench --bench abuse`.

mod log;
