//! `rockpool-node`: see the library for what it is made of.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rockpool_sqlnode::cli::run()
}
