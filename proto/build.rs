//! Compiles every schema under `proto/` with protox, so that no `protoc` has to be installed.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let mut schemas = Vec::new();
    collect(root, &mut schemas)?;
    schemas.sort();
    println!("cargo:rerun-if-changed=proto");

    let descriptors = protox::compile(&schemas, [root])?;
    tonic_prost_build::configure()
        // `Bytes` instead of `Vec<u8>`: a received payload is a slice of the frame it came in, not a copy.
        .bytes(".")
        // Clients and servers need tonic; the machines want the messages alone.
        .client_mod_attribute(".", "#[cfg(feature = \"rpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"rpc\")]")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(folder: &Path, schemas: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, schemas)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            schemas.push(path);
        }
    }
    Ok(())
}
