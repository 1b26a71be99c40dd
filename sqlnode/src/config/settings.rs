//! The table of settings: one row each, from which flags, variables, file keys and `--help` derive.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Plaintext};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file; flag and variable derive from it.
    pub key: &'static str,
    /// What stands for the value in `--help`.
    pub value_name: &'static str,
    /// One line of `--help`, with the default.
    pub help: &'static str,
    /// Whether its value must not appear in messages.
    pub secret: bool,
    /// Parses a value and puts it in place, or says what it should be.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Setting {
    /// The row named `key`.
    pub fn named(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Its flag: `--statement-timeout`.
    pub fn flag(&self) -> String {
        format!("--{}", self.key.replace('_', "-"))
    }

    /// Its environment variable: `ROCKPOOL_STATEMENT_TIMEOUT`.
    pub fn variable(&self) -> String {
        format!("ROCKPOOL_{}", self.key.to_ascii_uppercase())
    }
}

/// Every setting of `rockpool-node start`.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "data",
        value_name: "DIR",
        help: "Folder that holds everything this node knows; made at the first start [default: ./rockpool-data]",
        secret: false,
        set: |config, value| {
            config.data = PathBuf::from(non_empty(value)?);
            Ok(())
        },
    },
    Setting {
        key: "grpc",
        value_name: "ADDR",
        help: "Where devices and other nodes connect [default: 127.0.0.1:7400]",
        secret: false,
        set: |config, value| {
            config.grpc = address(value)?;
            Ok(())
        },
    },
    Setting {
        key: "pg",
        value_name: "ADDR",
        help: "Where PostgreSQL clients connect [default: 127.0.0.1:7432]",
        secret: false,
        set: |config, value| {
            config.pg = address(value)?;
            Ok(())
        },
    },
    Setting {
        key: "http",
        value_name: "ADDR",
        help: "Where /health, /ready and /metrics are served [default: 127.0.0.1:7480]",
        secret: false,
        set: |config, value| {
            config.http = address(value)?;
            Ok(())
        },
    },
    Setting {
        key: "advertise",
        value_name: "HOST",
        help: "Host name or address under which others reach this node [default: the address of --grpc]",
        secret: false,
        set: |config, value| {
            config.advertise = Some(host(value)?);
            Ok(())
        },
    },
    Setting {
        key: "join",
        value_name: "ADDR",
        help: "gRPC address of any member of the cluster to join; needs --token. Without it the first start makes a new cluster",
        secret: false,
        set: |config, value| {
            config.join = Some(host_and_port(value)?);
            Ok(())
        },
    },
    Setting {
        key: "token",
        value_name: "T",
        help: "What `rockpool-node token` printed on a member; good for one join",
        secret: true,
        set: |config, value| {
            config.token = Some(value.parse().map_err(|error: crate::cluster::TokenError| error.to_string())?);
            Ok(())
        },
    },
    Setting {
        key: "log",
        value_name: "FILTER",
        help: "Which log lines are written to stderr: error, warn, info, debug, or per module [default: info]",
        secret: false,
        set: |config, value| {
            log_filter(value)?;
            config.log = value.to_owned();
            Ok(())
        },
    },
    Setting {
        key: "pg_plaintext_loopback",
        value_name: "YES|NO",
        help: "Whether PostgreSQL clients on loopback addresses may connect without TLS [default: no]",
        secret: false,
        set: |config, value| {
            config.pg_plaintext_loopback = match value {
                "yes" | "true" => Plaintext::Loopback,
                "no" | "false" => Plaintext::Refused,
                _ => return Err("yes or no is expected".to_owned()),
            };
            Ok(())
        },
    },
    Setting {
        key: "pg_connections_max",
        value_name: "COUNT",
        help: "PostgreSQL connections served at once; more are refused with SQLSTATE 53300 [default: 512]",
        secret: false,
        set: |config, value| {
            config.pg_connections_max = count(value, 1, 100_000)?;
            Ok(())
        },
    },
    Setting {
        key: "statement_timeout",
        value_name: "DURATION",
        help: "How long a SQL statement may run, as 500ms, 30s or 5min; 0 for ever. Sessions may SET their own [default: 0]",
        secret: false,
        set: |config, value| {
            config.statement_timeout = duration(value)?;
            Ok(())
        },
    },
    Setting {
        key: "idle_in_transaction_timeout",
        value_name: "DURATION",
        help: "How long an open transaction may wait for its client before it is ended; 0 for ever [default: 10min]",
        secret: false,
        set: |config, value| {
            config.idle_in_transaction_timeout = duration(value)?;
            Ok(())
        },
    },
    Setting {
        key: "sign_ups_per_hour",
        value_name: "COUNT",
        help: "Accounts that one address may make at this node at once, and then in an hour [default: 30]",
        secret: false,
        set: |config, value| {
            config.sign_ups_per_hour = count(value, 1, 1_000_000)? as u32;
            Ok(())
        },
    },
];

/// Which log lines are written. A level that is misspelt must not pass for the name of a module: it would silence
/// everything. What the SQL parser says is left out unless it is named: it repeats statements with all that stands in
/// them, passwords too.
pub fn log_filter(text: &str) -> Result<tracing_subscriber::EnvFilter, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    for part in &parts {
        let level = part.rsplit_once('=').map_or(*part, |(_, level)| level.trim());
        if !is_level(level) {
            return Err(format!(
                "`{level}` is no level: {} are, for all or for a module, as in info,rockpool_sqlnode::pg=debug",
                LEVELS.join(", ")
            ));
        }
    }
    let filter = parts.join(",").parse::<tracing_subscriber::EnvFilter>().map_err(|error| error.to_string())?;
    if text.contains(PARSER) {
        return Ok(filter);
    }
    let quiet = format!("{PARSER}=off").parse().map_err(|_| "the filter can't be made".to_owned())?;
    Ok(filter.add_directive(quiet))
}

const PARSER: &str = "sqlparser";

fn non_empty(value: &str) -> Result<&str, String> {
    if value.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(value) }
}

fn address(value: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = value.parse() {
        return Ok(address);
    }
    let named = host_and_port(value)?;
    let mut addresses = named.to_socket_addrs().map_err(|error| format!("the name can't be resolved ({error})"))?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}

fn host(value: &str) -> Result<String, String> {
    let named = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let valid = named || value.parse::<std::net::Ipv6Addr>().is_ok();
    if value.is_empty() || value.len() > 253 || !valid {
        return Err("a host name or an IP address without a port is expected".to_owned());
    }
    if value.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err("others can't connect to this address; name one of this machine's own".to_owned());
    }
    Ok(value.to_owned())
}

/// `HOST:PORT`, not resolved.
pub(crate) fn host_and_port(value: &str) -> Result<String, String> {
    let expected = "HOST:PORT is expected, as in 127.0.0.1:7400";
    if value.parse::<SocketAddr>().is_ok() {
        return Ok(value.to_owned());
    }
    let (name, port) = value.rsplit_once(':').ok_or(expected)?;
    if port.parse::<u16>().is_err() {
        return Err(expected.to_owned());
    }
    host(name.trim_start_matches('[').trim_end_matches(']')).map_err(|_| expected.to_owned())?;
    Ok(value.to_owned())
}

fn count(value: &str, least: usize, most: usize) -> Result<usize, String> {
    let parsed = value.parse().ok().filter(|count| (least..=most).contains(count));
    parsed.ok_or_else(|| format!("a whole number from {least} to {most} is expected"))
}

/// A duration with its unit, as PostgreSQL writes them; a bare number counts milliseconds.
pub(crate) fn duration(value: &str) -> Result<Duration, String> {
    // As many milliseconds as PostgreSQL counts in a setting.
    duration_up_to(value, Duration::from_millis(i32::MAX as u64), "24 days are the most")
}

/// A duration with its unit that is not longer than `most`; `too_long` says so.
pub(crate) fn duration_up_to(value: &str, most: Duration, too_long: &str) -> Result<Duration, String> {
    let expected = || "a duration such as 500ms, 30s, 5min, 2h or 0 is expected".to_owned();
    let value = value.trim();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = value[..digits].parse().map_err(|_| expected())?;
    let unit_ms = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis).filter(|duration| *duration <= most);
    duration.ok_or_else(|| too_long.to_owned())
}

/// The setting whose name is closest to what was written, if any is close.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let scored = SETTINGS.iter().map(|setting| (edit_distance(key, setting.key), setting.key));
    scored.filter(|(distance, name)| *distance * 2 <= name.len().max(2)).min().map(|(_, name)| name)
}

/// Levenshtein's distance; keys are short.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5min"), Ok(Duration::from_secs(300)));
        assert!(duration("5 parsecs").is_err());
        assert!(duration("99999999999999999999").is_err());
        assert!(duration("1000h").is_err());
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(duration_up_to("7d", week, "too long"), Ok(week));
        assert_eq!(duration_up_to("30d", week, "too long"), Err("too long".to_owned()));
        assert!(duration("é").is_err());
    }

    #[test]
    fn a_level_that_is_misspelt_is_no_module() {
        for right in ["info", "WARN", "off", "info,rockpool_sqlnode::pg=debug", "warn, rockpool_runtime=trace"] {
            assert!(log_filter(right).is_ok(), "{right}");
        }
        for wrong in ["inof", "5", "", "rockpool_sqlnode=verbose", "info,rockpool_sqlnode"] {
            assert!(log_filter(wrong).unwrap_err().contains("is no level"), "{wrong}");
        }
    }

    #[test]
    fn every_row_has_its_own_key_and_help() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..index].iter().all(|other| other.key != setting.key), "{}", setting.key);
            assert!(setting.help.len() > 20, "{}", setting.key);
        }
    }
}
