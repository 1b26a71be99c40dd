//! Root's password: drawn by the first node, kept where `psql` looks for it.

use std::path::Path;

use super::folder::{read_small, write_whole};
use crate::error::StartError;

/// Letters and digits that nobody confuses: 32 of them, so each carries five bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A password from 20 random bytes: 32 characters, 160 bits. None of them needs escaping in a pgpass file.
pub fn generate_password(random: [u8; 20]) -> String {
    let mut password = String::with_capacity(32);
    for chunk in random.chunks(5) {
        let bits = chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            password.push(char::from(ALPHABET[(bits >> (place * 5)) as usize & 31]));
        }
    }
    password
}

/// Writes `DIR/pgpass`: one line for root on any host and port, so that it serves for every node of the cluster.
pub fn write_pgpass(folder: &Path, password: &str) -> Result<(), StartError> {
    write_whole(&folder.join("pgpass"), format!("*:*:*:root:{password}\n").as_bytes(), 0o600)
}

/// Root's password, if the folder holds it.
pub fn read_pgpass(folder: &Path) -> Result<Option<String>, StartError> {
    let text = read_small(&folder.join("pgpass"))?;
    Ok(text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("*:*:*:root:").map(str::to_owned))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_file_is_for_its_owner_only_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_pgpass(folder.path()).unwrap(), None);
        let password = generate_password([0xa5; 20]);
        assert_eq!(password.len(), 32);
        write_pgpass(folder.path(), &password).unwrap();
        assert_eq!(read_pgpass(folder.path()).unwrap(), Some(password));
        let mode = std::fs::metadata(folder.path().join("pgpass")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
