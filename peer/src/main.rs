//! The binary `rockpool`; see the library's head.

use std::process::ExitCode;

/// A transfer allocates for every packet, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rockpool_peer::cli::main()
}
