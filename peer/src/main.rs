//! The binary `rockpool`; see the library's head.

use std::process::ExitCode;

/// Half of a transfer's time was the system allocator's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rockpool_peer::cli::main()
}
