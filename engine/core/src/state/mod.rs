//! The state that the log's commands build.

mod task;

pub use task::{ApplyDone, ApplyTask};
