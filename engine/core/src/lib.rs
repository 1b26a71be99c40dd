//! The replicated transactional store as a sans-IO machine.

pub mod kv;
