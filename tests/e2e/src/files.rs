//! Folders to share, and their fingerprints.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Writes `size` bytes that look random and are the same for the same `seed`.
pub fn generate(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut block = vec![0u8; 1 << 20];
    let mut left = size;
    while left > 0 {
        let take = left.min(block.len() as u64) as usize;
        stream.fill(&mut block[..take]);
        file.write_all(&block[..take])?;
        left -= take as u64;
    }
    Ok(())
}

/// BLAKE3 of a file.
pub fn hash(path: &Path) -> Result<blake3::Hash> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0u8; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize()),
            read => hasher.update(&block[..read]),
        };
    }
}

/// Every file below `folder`: its path from there, and its BLAKE3.
pub fn fingerprints(folder: &Path) -> Result<BTreeMap<PathBuf, blake3::Hash>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_path_buf(), hash(&path)?);
            }
        }
    }
    Ok(found)
}
