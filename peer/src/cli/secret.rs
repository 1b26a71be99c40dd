//! Secrets come from a prompt, a file or standard input; never from an argument, which every process can read.

use crate::api::{ApiError, ErrorCode};
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Longest secret read from a file or from standard input.
const SECRET_BYTES_MAX: u64 = 4096;

/// Where a password comes from.
#[derive(Args, Debug)]
pub(super) struct PasswordArgs {
    /// Read the password from the first line of this file; "-" reads standard input [default: ask]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password; `confirm` asks twice.
    pub(super) fn read(&self, confirm: bool) -> Result<Zeroizing<String>, ApiError> {
        match &self.password_file {
            Some(path) if path.as_os_str() == "-" => first_line(std::io::stdin(), "standard input"),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| {
                    ApiError::new(
                        ErrorCode::Invalid,
                        format!("cannot read the password from {}: {error}", path.display()),
                    )
                })?;
                first_line(file, &path.display().to_string())
            }
            None if std::io::stdin().is_terminal() => ask(confirm),
            None => first_line(std::io::stdin(), "standard input"),
        }
    }
}

fn ask(confirm: bool) -> Result<Zeroizing<String>, ApiError> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text)
            .map(Zeroizing::new)
            .map_err(|error| ApiError::new(ErrorCode::Cancelled, format!("no password was given: {error}")))
    };
    let password = prompt("Password: ")?;
    if confirm && *prompt("Again: ")? != *password {
        return Err(ApiError::new(ErrorCode::Invalid, "the two passwords differ; nothing was changed"));
    }
    Ok(password)
}

/// The first line of something, without its end.
pub(super) fn first_line(from: impl Read, name: &str) -> Result<Zeroizing<String>, ApiError> {
    let mut text = Zeroizing::new(String::new());
    from.take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| ApiError::new(ErrorCode::Invalid, format!("cannot read a line from {name}: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(ApiError::new(ErrorCode::Invalid, format!("the first line of {name} is empty")));
    }
    Ok(Zeroizing::new(line.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_counts() {
        assert_eq!(*first_line(&b"secret word\r\nrest"[..], "x").unwrap(), "secret word");
        assert!(first_line(&b"\nsecond"[..], "x").unwrap_err().message.contains("empty"));
        assert!(first_line(&b"\xff\xfe"[..], "x").is_err());
    }
}
