//! Session settings: one table of those that are known, and the values that a session has changed.
//!
//! A name with a dot in it is the client's own and takes any value. Any other unknown name is refused, as in PostgreSQL:
//! a mistyped SET must not pass for one that works.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rockpool_sql::{SetValue, SqlError, SqlState};

use crate::config::duration;

/// Schemas searched for bare names unless a session says otherwise.
pub const DEFAULT_SEARCH_PATH: &str = "\"$user\", public";
/// Bytes in the value of one setting.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Settings that a session may have changed.
const CHANGED_MAX: usize = 256;

/// A setting that clients are told of, at the start and at every change: ParameterStatus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its name, spelt as clients expect it.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

/// What values a setting takes.
enum Takes {
    /// Nothing: it says what the server is.
    Fixed,
    /// Any text.
    Text,
    /// `on` or `off`.
    Bool,
    /// A whole number in this range.
    Number(i64, i64),
    /// A duration, shown in milliseconds.
    Duration,
    /// The one encoding there is, under any of its names. Drivers write them as `'utf-8'`, quotes included.
    Encoding,
    /// A time zone, under one of the names that the language knows.
    TimeZone,
    /// One of these, compared without case.
    OneOf(&'static [&'static str]),
}

struct Known {
    /// Spelt as it is reported; looked up in lower case.
    name: &'static str,
    default: &'static str,
    takes: Takes,
    reported: bool,
}

const fn known(name: &'static str, default: &'static str, takes: Takes) -> Known {
    Known { name, default, takes, reported: false }
}

const fn reported(name: &'static str, default: &'static str, takes: Takes) -> Known {
    Known { name, default, takes, reported: true }
}

/// What drivers check before they use a feature. Ours follows PostgreSQL 15's language.
const SERVER_VERSION: &str = concat!("15.0 (Rockpool ", env!("CARGO_PKG_VERSION"), ")");
const LEVELS: &[&str] = &["serializable", "repeatable read", "read committed", "read uncommitted"];

const KNOWN: &[Known] = &[
    reported("application_name", "", Takes::Text),
    reported("client_encoding", "UTF8", Takes::Encoding),
    reported("DateStyle", "ISO, MDY", Takes::OneOf(&["ISO", "ISO, MDY", "ISO,MDY", "ISO, DMY", "ISO, YMD"])),
    reported("default_transaction_read_only", "off", Takes::Bool),
    reported("in_hot_standby", "off", Takes::Fixed),
    reported("integer_datetimes", "on", Takes::Fixed),
    reported("IntervalStyle", "postgres", Takes::OneOf(&["postgres"])),
    reported("is_superuser", "on", Takes::Fixed),
    reported("server_encoding", "UTF8", Takes::Fixed),
    reported("server_version", SERVER_VERSION, Takes::Fixed),
    reported("session_authorization", "", Takes::Fixed),
    reported("standard_conforming_strings", "on", Takes::OneOf(&["on"])),
    reported("TimeZone", "UTC", Takes::TimeZone),
    known("bytea_output", "hex", Takes::OneOf(&["hex"])),
    known("check_function_bodies", "on", Takes::Bool),
    known("client_min_messages", "notice", Takes::Text),
    known("default_table_access_method", "heap", Takes::Text),
    known("default_tablespace", "", Takes::Text),
    known("default_transaction_isolation", "serializable", Takes::OneOf(LEVELS)),
    known("escape_string_warning", "on", Takes::Bool),
    known("extra_float_digits", "1", Takes::Number(-15, 3)),
    known("idle_in_transaction_session_timeout", "0", Takes::Duration),
    known("jit", "off", Takes::Bool),
    known("lc_collate", "C", Takes::Fixed),
    known("lc_ctype", "C.UTF-8", Takes::Fixed),
    known("lc_messages", "C", Takes::Text),
    known("lc_monetary", "C", Takes::Text),
    known("lc_numeric", "C", Takes::Text),
    known("lc_time", "C", Takes::Text),
    known("lock_timeout", "0", Takes::Duration),
    known("max_identifier_length", "63", Takes::Fixed),
    known("max_index_keys", "32", Takes::Fixed),
    known("role", "none", Takes::OneOf(&["none"])),
    known("row_security", "on", Takes::Bool),
    known("search_path", DEFAULT_SEARCH_PATH, Takes::Text),
    known("server_version_num", "150000", Takes::Fixed),
    known("statement_timeout", "0", Takes::Duration),
    known("synchronous_commit", "on", Takes::OneOf(&["on", "remote_apply", "remote_write", "local"])),
    known("synchronize_seqscans", "on", Takes::Bool),
    known("transaction_isolation", "serializable", Takes::OneOf(LEVELS)),
    known("transaction_timeout", "0", Takes::Duration),
    known("work_mem", "4MB", Takes::Text),
    known("xmloption", "content", Takes::Text),
];

fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

fn unrecognized(name: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

impl Takes {
    /// The value as it is kept, or what is wrong with it.
    fn normalize(&self, text: &str) -> Result<String, String> {
        match self {
            Takes::Fixed => Err("it cannot be changed".to_owned()),
            Takes::Text => Ok(text.to_owned()),
            Takes::Bool => match text.to_ascii_lowercase().as_str() {
                "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".to_owned()),
                "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".to_owned()),
                _ => Err("on or off is expected".to_owned()),
            },
            Takes::Number(least, most) => match text.parse::<i64>() {
                Ok(number) if (least..=most).contains(&&number) => Ok(number.to_string()),
                _ => Err(format!("a number from {least} to {most} is expected")),
            },
            Takes::Duration => duration(text).map(|duration| duration.as_millis().to_string()),
            Takes::Encoding => {
                // As PostgreSQL compares them: letters and digits only.
                let letters = text.chars().filter(char::is_ascii_alphanumeric);
                match letters.collect::<String>().to_ascii_lowercase().as_str() {
                    "utf8" | "unicode" => Ok("UTF8".to_owned()),
                    _ => Err("UTF8 is the only encoding".to_owned()),
                }
            }
            Takes::TimeZone if rockpool_sql::types::time_zone_exists(text) => Ok(text.to_owned()),
            Takes::TimeZone => Err("a name such as UTC or Europe/Berlin, or an offset, is expected".to_owned()),
            Takes::OneOf(choices) => match choices.iter().find(|choice| choice.eq_ignore_ascii_case(text)) {
                Some(choice) => Ok((*choice).to_owned()),
                None => Err(format!("{} is expected", choices.join(" or "))),
            },
        }
    }
}

/// What a session has changed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Defaults of this session: what its startup packet asked for.
    initial: Arc<BTreeMap<String, String>>,
    session: Arc<BTreeMap<String, String>>,
    /// Over them, until the transaction's end.
    local: Arc<BTreeMap<String, String>>,
}

impl Settings {
    /// Settings with defaults of their own: the startup packet's, or the node's.
    pub fn with_initial(values: impl IntoIterator<Item = (String, String)>) -> Result<Settings, SqlError> {
        let mut settings = Settings::default();
        for (name, value) in values {
            let schemas = value.split(',').map(|part| part.trim().trim_matches('"').to_owned());
            let is_path = name.eq_ignore_ascii_case("search_path");
            let values = if is_path { schemas.collect() } else { vec![value] };
            settings.set(&name, &SetValue::Values(values), false)?;
        }
        settings.initial = std::mem::take(&mut settings.session);
        Ok(settings)
    }

    /// `SET [LOCAL] name = value`.
    pub fn set(&mut self, name: &str, value: &SetValue, local: bool) -> Result<(), SqlError> {
        let name = name.to_lowercase();
        let known = find(&name);
        if known.is_none() && !name.contains('.') {
            return Err(unrecognized(&name));
        }
        let values = match value {
            SetValue::Default => {
                if known.is_some_and(|known| matches!(known.takes, Takes::Fixed)) {
                    return Err(fixed(&name));
                }
                Arc::make_mut(&mut self.local).remove(&name);
                if !local {
                    Arc::make_mut(&mut self.session).remove(&name);
                }
                return Ok(());
            }
            SetValue::Values(values) => values,
        };
        let text = if name == "search_path" {
            values.iter().map(|schema| quote_schema(schema)).collect::<Vec<_>>().join(", ")
        } else {
            values.join(", ")
        };
        if text.len() > VALUE_BYTES_MAX || text.contains('\0') {
            return Err(SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("the value of \"{name}\" is longer than {VALUE_BYTES_MAX} bytes"),
            ));
        }
        let text = match known {
            Some(Known { takes: Takes::Fixed, .. }) => return Err(fixed(&name)),
            Some(known) => known.takes.normalize(&text).map_err(|reason| {
                SqlError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("invalid value for parameter \"{}\": \"{text}\"", known.name),
                )
                .with_hint(reason)
            })?,
            None => text,
        };
        if self.session.len() + self.local.len() >= CHANGED_MAX {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a session may change {CHANGED_MAX} settings"),
            ));
        }
        if local {
            Arc::make_mut(&mut self.local).insert(name, text);
        } else {
            Arc::make_mut(&mut self.local).remove(&name);
            Arc::make_mut(&mut self.session).insert(name, text);
        }
        Ok(())
    }

    /// `RESET name`, or everything.
    pub fn reset(&mut self, name: Option<&str>) -> Result<(), SqlError> {
        match name {
            Some(name) => self.set(name, &SetValue::Default, false),
            None => {
                self.session = Arc::default();
                self.local = Arc::default();
                Ok(())
            }
        }
    }

    /// Ends what holds for one transaction; true when something did.
    pub fn end_local(&mut self) -> bool {
        let any = !self.local.is_empty();
        self.local = Arc::default();
        any
    }

    fn changed(&self, name: &str) -> Option<&str> {
        let maps = [&self.local, &self.session, &self.initial];
        maps.into_iter().find_map(|map| map.get(name)).map(String::as_str)
    }

    /// The value that holds.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.changed(name).or_else(|| find(name).map(|known| known.default))
    }

    /// `SHOW name`.
    pub fn show(&self, name: &str) -> Result<String, SqlError> {
        self.get(&name.to_lowercase()).map(str::to_owned).ok_or_else(|| unrecognized(name))
    }

    /// `SHOW ALL`: names and values.
    pub fn all(&self) -> Vec<(String, String)> {
        let known = KNOWN.iter().map(|known| known.name.to_lowercase());
        let own = self.session.keys().chain(self.local.keys()).cloned();
        let names: std::collections::BTreeSet<String> = known.chain(own).collect();
        names.into_iter().map(|name| (name.clone(), self.get(&name).unwrap_or_default().to_owned())).collect()
    }

    /// What clients are told.
    pub fn reported(&self) -> Vec<Reported> {
        let told = KNOWN.iter().filter(|known| known.reported);
        told.map(|known| Reported {
            name: known.name,
            value: self.changed(&known.name.to_lowercase()).unwrap_or(known.default).to_owned(),
        })
        .collect()
    }

    /// What the language is told, for `current_setting()`: all settings, names in lower case.
    pub fn exported(&self) -> BTreeMap<String, String> {
        let mut exported = (*self.initial).clone();
        exported.extend(self.all());
        exported
    }

    /// Schemas searched for bare names.
    pub fn search_path(&self, user: &str) -> Vec<String> {
        let text = self.get("search_path").unwrap_or(DEFAULT_SEARCH_PATH);
        let schemas = text.split(',').map(|schema| schema.trim().trim_matches('"'));
        let named = schemas.map(|schema| if schema == "$user" { user } else { schema });
        named.filter(|schema| !schema.is_empty()).map(str::to_owned).collect()
    }

    /// How long a statement may run.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.duration("statement_timeout")
    }

    /// How long an open block may wait for its client.
    pub fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        self.duration("idle_in_transaction_session_timeout")
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|text| duration(text).ok()).filter(|duration| !duration.is_zero())
    }
}

fn fixed(name: &str) -> SqlError {
    SqlError::new(SqlState::CANT_CHANGE_RUNTIME_PARAM, format!("parameter \"{name}\" cannot be changed"))
}

fn quote_schema(schema: &str) -> String {
    let plain = schema.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if plain && !schema.is_empty() { schema.to_owned() } else { format!("\"{}\"", schema.replace(['"', ','], "")) }
}
