//! Root's password: drawn by the first node, kept where `psql` looks for it.

use std::fmt;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use zeroize::Zeroizing;

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
    let mut line = String::from(LINE_START);
    for letter in password.chars() {
        if matches!(letter, ':' | '\\') {
            line.push('\\');
        }
        line.push(letter);
    }
    line.push('\n');
    write_whole(&folder.join("pgpass"), line.as_bytes(), 0o600)
}

/// Root's password, if the folder holds it.
pub fn read_pgpass(folder: &Path) -> Result<Option<String>, StartError> {
    let text = read_small(&folder.join("pgpass"))?;
    let Some(line) = text.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix(LINE_START)))
    else {
        return Ok(None);
    };
    let mut password = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => password.extend(letters.next()),
            ':' => break,
            _ => password.push(letter),
        }
    }
    Ok(Some(password))
}

const LINE_START: &str = "*:*:*:root:";

/// Root's password as this node knows it: what `pgpass` holds, and what joining nodes receive.
pub struct RootPassword {
    folder: PathBuf,
    current: RwLock<Zeroizing<String>>,
}

impl fmt::Debug for RootPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootPassword(..)")
    }
}

impl RootPassword {
    /// What the folder holds.
    pub fn new(folder: &Path, current: Zeroizing<String>) -> Self {
        RootPassword { folder: folder.to_owned(), current: RwLock::new(current) }
    }

    /// The password.
    pub fn current(&self) -> Zeroizing<String> {
        self.current.read().clone()
    }

    /// Takes a new one over, into the folder too; or says why that can't be.
    pub fn replace(&self, password: &str) -> Result<(), String> {
        if password.contains(['\n', '\r']) {
            return Err("a pgpass file can't hold one with line breaks".to_owned());
        }
        let mut current = self.current.write();
        write_pgpass(&self.folder, password).map_err(|error| error.to_string())?;
        *current = Zeroizing::new(password.to_owned());
        Ok(())
    }
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

    #[test]
    fn a_password_that_people_chose_reads_back_and_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let kept = RootPassword::new(folder.path(), Zeroizing::new("first".to_owned()));
        let chosen = r"a:b\c # d\\:";
        kept.replace(chosen).unwrap();
        assert_eq!(read_pgpass(folder.path()).unwrap().as_deref(), Some(chosen));
        assert!(kept.replace("two\nlines").is_err());
        assert_eq!(kept.current().as_str(), chosen);
        assert_eq!(read_pgpass(folder.path()).unwrap().as_deref(), Some(chosen));
    }
}
