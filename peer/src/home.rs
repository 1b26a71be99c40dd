//! The folder in which a device keeps what it is: keys, login session, server, caches, store.
//!
//! ```text
//!   ~/.rockpool              $ROCKPOOL_HOME or --home; mode 0700
//!     device.key             secret keys of this device, 0600; whoever has it is this device
//!     server.json            addresses of the cluster's nodes and the certificate authority to trust
//!     session.json           account, device, tokens, 0600
//!     session.lock           held while tokens are exchanged: a refresh token works once
//!     pools.json             the pool list as last seen, for when the cluster is out of reach
//!     store.redb             message log, offers, downloads
//!     outboards/             hash trees of offered files
//!     daemon.lock            held by the process that has a pool open
//!     daemon.sock            its local API (see `api`)
//!     daemon.log             what `open --detach` has to say
//! ```
//!
//! Files are replaced by writing a neighbour and renaming it, so that a crash leaves the old or the new one.

use crate::api::{ApiError, ErrorCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest path that fits a Unix socket address on every system we build for.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// A device's folder.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

/// The cluster that this device talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `HOST:PORT` of the nodes' gRPC listeners, the one to try first in front.
    pub addresses: Vec<String>,
    /// Lower-case hex SHA-256 of the certificate authority's certificate (DER).
    pub fingerprint: String,
    /// The certificate authority's certificate, PEM.
    pub authority_pem: String,
    /// Hex, empty until the cluster said it.
    #[serde(default)]
    pub cluster_id: String,
}

/// Who is logged in on this device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginSession {
    /// Hex.
    pub account_id: String,
    /// What one logs in with.
    pub login_name: String,
    /// What others see.
    pub display_name: String,
    /// Hex.
    pub device_id: String,
    /// The device's name.
    pub device_name: String,
    /// Hex.
    pub access_token: String,
    /// Hex.
    pub refresh_token: String,
    /// Microseconds since 1970 UTC, by the cluster's clock.
    pub access_expires_at_us: i64,
}

/// A pool as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPool {
    /// Hex.
    pub pool_id: String,
    /// Its name.
    pub name: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// Accounts in it.
    pub members: u32,
}

/// The secret keys of a device.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DeviceSecret {
    /// Seed of the Ed25519 key that signs.
    pub signing: [u8; 32],
    /// The X25519 secret that whispers will be sealed to.
    pub exchange: [u8; 32],
}

/// Held while a pool is open: one process at a time.
#[derive(Debug)]
pub struct DaemonLock(#[allow(dead_code)] File);

impl Home {
    /// Opens the home, making it where there is none: `--home`, else `$ROCKPOOL_HOME`, else `~/.rockpool`.
    pub fn open(explicit: Option<&Path>) -> Result<Home, ApiError> {
        let root = match explicit {
            Some(path) => path.to_path_buf(),
            None => default_root()?,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(|error| refuse(&root, "make", error))?;
        let root = root.canonicalize().map_err(|error| refuse(&root, "open", error))?;
        Ok(Home { root })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The redb file.
    pub fn store_path(&self) -> PathBuf {
        self.root.join("store.redb")
    }

    /// Folder of the hash trees of offered files.
    pub fn outboards_path(&self) -> PathBuf {
        self.root.join("outboards")
    }

    /// Where a detached process writes its log.
    pub fn daemon_log_path(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// The local API's socket. A home whose path is too long for a socket address has it in the temporary folder, under
    /// a name derived from the home's.
    pub fn socket_path(&self) -> PathBuf {
        let path = self.root.join("daemon.sock");
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return path;
        }
        let hash = blake3::hash(self.root.as_os_str().as_encoded_bytes());
        std::env::temp_dir().join(format!("rockpool-{}.sock", &hash.to_hex()[..32]))
    }

    /// Takes the right to have a pool open, or says who has it.
    pub fn lock_daemon(&self) -> Result<DaemonLock, ApiError> {
        let path = self.root.join("daemon.lock");
        let mut file = private_file(&path).map_err(|error| refuse(&path, "open", error))?;
        match file.try_lock() {
            Ok(()) => {
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                Ok(DaemonLock(file))
            }
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).unwrap_or_default();
                Err(ApiError::new(
                    ErrorCode::Denied,
                    format!(
                        "another rockpool process (pid {}) has a pool open in {}. A device can be in one place at a time: \
                         use that one, or give this one another --home",
                        pid.trim(),
                        self.root.display()
                    ),
                ))
            }
            Err(fs::TryLockError::Error(error)) => Err(refuse(&path, "lock", error)),
        }
    }

    /// Waits for the right to exchange session tokens, which is given up when the file is dropped.
    pub fn lock_session(&self) -> Result<File, ApiError> {
        let path = self.root.join("session.lock");
        let file = private_file(&path).map_err(|error| refuse(&path, "open", error))?;
        file.lock().map_err(|error| refuse(&path, "lock", error))?;
        Ok(file)
    }

    /// The cluster, if one was added.
    pub fn server(&self) -> Result<Option<Server>, ApiError> {
        self.read("server.json")
    }

    /// The cluster, or the sentence that says how to add one.
    pub fn must_server(&self) -> Result<Server, ApiError> {
        self.server()?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Denied,
                "no cluster is known here yet. Ask its operator for the address and run: rockpool server add rockpool://HOST:7400/#FINGERPRINT",
            )
        })
    }

    /// Keeps the cluster.
    pub fn save_server(&self, server: &Server) -> Result<(), ApiError> {
        self.write("server.json", server)
    }

    /// The login session, if there is one.
    pub fn session(&self) -> Result<Option<LoginSession>, ApiError> {
        self.read("session.json")
    }

    /// The login session, or the sentence that says how to get one.
    pub fn must_session(&self) -> Result<LoginSession, ApiError> {
        self.session()?.ok_or_else(|| {
            ApiError::new(
                ErrorCode::Denied,
                "nobody is logged in here. Run: rockpool login NAME   (or: rockpool signup NAME)",
            )
        })
    }

    /// Keeps the login session.
    pub fn save_session(&self, session: &LoginSession) -> Result<(), ApiError> {
        self.write("session.json", session)
    }

    /// Forgets the login session; the device's keys and history stay.
    pub fn forget_session(&self) -> Result<(), ApiError> {
        let path = self.root.join("session.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(refuse(&path, "remove", error)),
            _ => Ok(()),
        }
    }

    /// The pool list as last seen.
    pub fn known_pools(&self) -> Result<Vec<KnownPool>, ApiError> {
        Ok(self.read("pools.json")?.unwrap_or_default())
    }

    /// Keeps the pool list.
    pub fn save_known_pools(&self, pools: &[KnownPool]) -> Result<(), ApiError> {
        self.write("pools.json", &pools)
    }

    /// This device's secret keys, made on first use.
    pub fn device_secret(&self) -> Result<DeviceSecret, ApiError> {
        let path = self.root.join("device.key");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut fresh = [0u8; 64];
                getrandom::fill(&mut fresh).map_err(|error| {
                    ApiError::new(ErrorCode::Internal, format!("the system gives no random numbers: {error}"))
                })?;
                self.replace(&path, &fresh)?;
                fresh.to_vec()
            }
            Err(error) => return Err(refuse(&path, "read", error)),
        };
        let Some((signing, exchange)) = bytes.split_first_chunk::<32>() else { return Err(damaged(&path)) };
        let exchange = exchange.try_into().map_err(|_| damaged(&path))?;
        Ok(DeviceSecret { signing: *signing, exchange })
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| damaged(&path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refuse(&path, "read", error)),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), ApiError> {
        let text = serde_json::to_vec_pretty(value).expect("these types have string keys only");
        self.replace(&self.root.join(name), &text)
    }

    /// Replaces a file whole, readable by its owner only.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ApiError> {
        let neighbour = path.with_extension(format!("{}.new", std::process::id()));
        let written = (|| {
            let mut file = private_file(&neighbour)?;
            file.set_len(0)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&neighbour, path)?;
            File::open(&self.root)?.sync_all()
        })();
        written.map_err(|error| {
            let _ = fs::remove_file(&neighbour);
            refuse(path, "write", error)
        })
    }
}

fn default_root() -> Result<PathBuf, ApiError> {
    if let Some(home) = std::env::var_os("ROCKPOOL_HOME").filter(|home| !home.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(".rockpool")),
        None => Err(ApiError::new(
            ErrorCode::Invalid,
            "neither $ROCKPOOL_HOME nor $HOME is set, so there is no folder to keep keys in. Give one with --home",
        )),
    }
}

fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn refuse(path: &Path, verb: &str, error: std::io::Error) -> ApiError {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ErrorCode::Disk,
        ErrorKind::PermissionDenied => ErrorCode::Denied,
        _ => ErrorCode::Disk,
    };
    ApiError::new(code, format!("cannot {verb} {}: {error}", path.display()))
}

fn damaged(path: &Path) -> ApiError {
    ApiError::new(
        ErrorCode::Disk,
        format!("{} is damaged. Restore it from a backup, or move it away to start anew", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        (folder, home)
    }

    #[test]
    fn keys_are_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, home) = home();
        let first = home.device_secret().unwrap();
        let second = home.device_secret().unwrap();
        assert_eq!(first.signing, second.signing);
        assert_ne!(first.signing, first.exchange);
        let mode = fs::metadata(home.root().join("device.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(home.root()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn damaged_files_are_named_and_left_alone() {
        let (_folder, home) = home();
        fs::write(home.root().join("session.json"), b"{").unwrap();
        let error = home.session().unwrap_err();
        assert!(error.message.contains("session.json is damaged"), "{error}");
        assert_eq!(fs::read(home.root().join("session.json")).unwrap(), b"{");
        fs::write(home.root().join("device.key"), [1; 63]).unwrap();
        assert!(home.device_secret().is_err());
    }

    #[test]
    fn a_second_process_is_told_who_was_first() {
        let (_folder, home) = home();
        let held = home.lock_daemon().unwrap();
        let error = home.lock_daemon().unwrap_err();
        assert!(error.message.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        home.lock_daemon().unwrap();
    }

    #[test]
    fn long_homes_still_have_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("x".repeat(120)))).unwrap();
        assert!(home.socket_path().as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    }
}
