//! Settings of a node: where they come from, which win, and what is refused.
//!
//! One table ([`settings::SETTINGS`]) holds every setting with its name, help and parser. The flag `--pg-connections-max`,
//! the variable `ROCKPOOL_PG_CONNECTIONS_MAX` and the line `pg_connections_max = 64` all derive from one row.
//!
//! ```text
//!   defaults  <  file (--config, or rockpool.toml in the data folder)  <  environment  <  flags
//! ```
//!
//! Whatever is wrong is refused before anything is opened, naming where it stands: `node.toml, line 3: ...`.

mod file;
mod settings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use settings::log_filter;
pub use settings::{SETTINGS, Setting};
pub(crate) use settings::{duration, duration_up_to, host_and_port};

use crate::cluster::JoinToken;

/// Validated settings of `rockpool-node start`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that holds everything this node knows.
    pub data: PathBuf,
    /// Where gRPC listens: devices and nodes.
    pub grpc: SocketAddr,
    /// Where the PostgreSQL protocol listens.
    pub pg: SocketAddr,
    /// Where `/health`, `/ready` and `/metrics` listen.
    pub http: SocketAddr,
    /// The host under which others reach this node; from `grpc` when absent.
    pub advertise: Option<String>,
    /// A member of the cluster to join.
    pub join: Option<String>,
    /// What allows to join.
    pub token: Option<JoinToken>,
    /// Which log lines are written, in `tracing` syntax.
    pub log: String,
    /// Whether PostgreSQL clients on loopback may go without TLS.
    pub pg_plaintext_loopback: Plaintext,
    /// PostgreSQL connections served at once.
    pub pg_connections_max: usize,
    /// How long one SQL statement may run, unless its session says otherwise; zero: no limit.
    pub statement_timeout: Duration,
    /// How long an open transaction may wait for its client; zero: no limit.
    pub idle_in_transaction_timeout: Duration,
    /// Accounts that one address may make at once, and then in an hour.
    pub sign_ups_per_hour: u32,
}

/// Whether a listener takes connections without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// Refused.
    Refused,
    /// Taken from loopback addresses.
    Loopback,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Config {
            data: PathBuf::from("rockpool-data"),
            grpc: local(7400),
            pg: local(7432),
            http: local(7480),
            advertise: None,
            join: None,
            token: None,
            log: "info".to_owned(),
            pg_plaintext_loopback: Plaintext::Refused,
            pg_connections_max: 512,
            statement_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::from_secs(600),
            sign_ups_per_hour: rockpool_proto::limits::SIGN_UPS_PER_HOUR_MAX,
        }
    }
}

/// Where a value was written, for the sentence that refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Origin::Environment(variable) => write!(f, "environment variable {variable}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Why the settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file isn't TOML.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The line.
        origin: Origin,
        /// What the parser said.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("{origin}: `{key}` is not a setting{}", hint.map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default())]
    UnknownKey {
        /// The line.
        origin: Origin,
        /// The key.
        key: String,
        /// The setting with the most similar name.
        hint: Option<&'static str>,
    },
    /// A value that can't be used.
    #[error("{origin}: `{value}` can't be the value of `{key}`: {reason}")]
    BadValue {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: &'static str,
        /// What was written; a secret is not repeated.
        value: String,
        /// What it should be.
        reason: String,
    },
    /// Settings that don't go together.
    #[error("{0}")]
    Combination(String),
}

impl Config {
    /// Gathers the settings: the file's, over them those that `environment` answers, over them `flags`.
    pub fn gather(
        flags: &[(&'static str, String)],
        environment: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        if let Some(path) = file {
            for written in file::read(path)? {
                config.apply(written.setting, &written.value, written.origin)?;
            }
        }
        for setting in SETTINGS {
            if let Some(value) = environment(&setting.variable()) {
                config.apply(setting, &value, Origin::Environment(setting.variable()))?;
            }
        }
        for (key, value) in flags {
            let setting = Setting::named(key).expect("flags are made from the table of settings");
            config.apply(setting, value, Origin::Flag(setting.flag()))?;
        }
        config.check()?;
        Ok(config)
    }

    fn apply(&mut self, setting: &'static Setting, value: &str, origin: Origin) -> Result<(), ConfigError> {
        (setting.set)(self, value).map_err(|reason| ConfigError::BadValue {
            origin,
            key: setting.key,
            value: if setting.secret { "(hidden)".to_owned() } else { value.to_owned() },
            reason,
        })
    }

    /// Refuses what each setting alone can't see.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: &str| Err(ConfigError::Combination(text.to_owned()));
        match (&self.join, &self.token) {
            (Some(_), None) => {
                return refuse(
                    "--join needs --token: ask a running node for one with `rockpool-node token --data ITS_FOLDER`",
                );
            }
            (None, Some(_)) => return refuse("--token needs --join HOST:PORT, the gRPC address of a member"),
            _ => {}
        }
        if self.advertise.is_none() && self.grpc.ip().is_unspecified() {
            return refuse(
                "listening on every address needs --advertise HOST: the name or address under which others reach this node",
            );
        }
        let listeners = [("grpc", self.grpc), ("pg", self.pg), ("http", self.http)];
        for (index, (name, address)) in listeners.iter().enumerate() {
            if let Some((other, _)) =
                listeners[..index].iter().find(|(_, other)| other == address && address.port() != 0)
            {
                return refuse(&format!("--{other} and --{name} can't share {address}: give each a port of its own"));
            }
        }
        Ok(())
    }

    /// The host that others are told.
    pub fn advertised_host(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.grpc.ip().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(text: &str, flags: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        let flags: Vec<(&'static str, String)> = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let environment =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        let prefix = format!("{}/", folder.path().display());
        Config::gather(&flags, environment, Some(&path)).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let text = "grpc = \"127.0.0.1:1\"\npg = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n";
        let variables = [("ROCKPOOL_PG", "127.0.0.1:20"), ("ROCKPOOL_HTTP", "127.0.0.1:30")];
        let config = gather(text, &[("http", "127.0.0.1:300")], &variables).unwrap();
        assert_eq!((config.grpc.port(), config.pg.port(), config.http.port()), (1, 20, 300));
        assert_eq!(config.data, PathBuf::from("rockpool-data"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let error = gather("# a comment\n\ngprc = \"127.0.0.1:1\"\n", &[], &[]).unwrap_err();
        assert_eq!(error, "node.toml, line 3: `gprc` is not a setting; did you mean `grpc`?");
        let error = gather("[pg]\nport = 1\n", &[], &[]).unwrap_err();
        assert!(error.starts_with("node.toml, line 1: `(a table)` can't be the value of `pg`"), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_where_it_stands() {
        let error = gather("pg_connections_max = 10\npg = \"nowhere\"\n", &[], &[]).unwrap_err();
        assert!(error.starts_with("node.toml, line 2: `nowhere` can't be the value of `pg`:"), "{error}");
        let error = gather("", &[], &[("ROCKPOOL_PG_CONNECTIONS_MAX", "many")]).unwrap_err();
        assert!(error.starts_with("environment variable ROCKPOOL_PG_CONNECTIONS_MAX: `many`"), "{error}");
        let error = gather("", &[("grpc", "127.0.0.1:99999")], &[]).unwrap_err();
        assert!(error.starts_with("--grpc: `127.0.0.1:99999`"), "{error}");
        let error = gather("grpc = = 3\n", &[], &[]).unwrap_err();
        assert!(error.starts_with("node.toml, line 1: "), "{error}");
    }

    #[test]
    fn a_token_is_never_repeated() {
        let error = gather("", &[("join", "127.0.0.1:1"), ("token", "swordfish")], &[]).unwrap_err();
        assert!(error.contains("(hidden)") && !error.contains("swordfish"), "{error}");
    }

    #[test]
    fn settings_that_need_each_other_are_checked() {
        assert!(gather("join = \"127.0.0.1:1\"\n", &[], &[]).unwrap_err().contains("--join needs --token"));
        assert!(gather("grpc = \"0.0.0.0:7400\"\n", &[], &[]).unwrap_err().contains("--advertise"));
        assert!(gather("pg = \"127.0.0.1:7400\"\n", &[], &[]).unwrap_err().contains("can't share 127.0.0.1:7400"));
    }
}
