//! Reads secrets from where the configuration says they are. No text of an error has what was read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::{HumanSize, SecretSource};

/// Bytes of a secret.
const LONGEST: u64 = 64 << 10;

/// A secret that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the secret `{name}` cannot be read from {place}: {error}")]
pub struct SecretProblem {
    /// Its name.
    pub name: String,
    /// Where it should be.
    pub place: SecretSource,
    /// What is wrong.
    pub error: SecretError,
}

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system refused to read the file.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// A pipe or a device could keep us waiting for ever.
    #[error("it is not a regular file")]
    NotAFile,
    /// There is no such variable.
    #[error("it is not set")]
    Unset,
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// More is there than a secret may have.
    #[error("it is longer than {}", HumanSize(LONGEST))]
    TooLong,
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
}

impl SecretProblem {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let name = &self.name;
        match (&self.error, &self.place) {
            (SecretError::Read(_), SecretSource::File(_)) => Some(format!(
                "a path is relative to the folder of the config file; `{name}` names it under [plugin.grants]"
            )),
            (SecretError::Unset, SecretSource::Env(variable)) => {
                Some(format!("set {variable} for the process, or name another variable or a file for `{name}`"))
            }
            (SecretError::Empty, _) => Some("has it been written yet?".to_owned()),
            (SecretError::TooLong, _) => Some("is it the right file?".to_owned()),
            (SecretError::NotText, _) => Some("encode it, with base64 for example".to_owned()),
            (SecretError::Read(_) | SecretError::Unset | SecretError::NotAFile, _) => None,
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(variable) => write!(f, "the variable {variable}"),
        }
    }
}

/// Read every secret of a plugin.
///
/// # Errors
/// The first one that cannot be read.
pub fn read_all(secrets: &BTreeMap<Arc<str>, SecretSource>) -> Result<BTreeMap<String, String>, SecretProblem> {
    secrets.iter().map(|(name, place)| Ok((name.to_string(), read(name, place)?))).collect()
}

/// Read one secret, without the line's end after it.
///
/// # Errors
/// When there is none, or it is no text of at most 64 KiB.
pub fn read(name: &str, place: &SecretSource) -> Result<String, SecretProblem> {
    let secret = match place {
        SecretSource::File(path) => from_file(path),
        SecretSource::Env(variable) => from_environment(variable),
    };
    secret.map_err(|error| SecretProblem { name: name.to_owned(), place: place.clone(), error })
}

fn from_file(path: &Path) -> Result<String, SecretError> {
    let mut bytes = Vec::new();
    if !std::fs::metadata(path)?.is_file() {
        return Err(SecretError::NotAFile);
    }
    // One byte more shows that there are too many, and the line's end is none of the secret's.
    std::fs::File::open(path)?.take(LONGEST + 3).read_to_end(&mut bytes)?;
    checked(String::from_utf8(bytes).map_err(|_| SecretError::NotText)?)
}

fn from_environment(variable: &str) -> Result<String, SecretError> {
    let value = std::env::var_os(variable).ok_or(SecretError::Unset)?;
    checked(value.into_string().map_err(|_| SecretError::NotText)?)
}

fn checked(mut text: String) -> Result<String, SecretError> {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    match text.len() as u64 {
        0 => Err(SecretError::Empty),
        1..=LONGEST => Ok(text),
        _ => Err(SecretError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from a file with this content, or what is said of it.
    fn of(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, content).expect("written");
        let shown =
            |problem: SecretProblem| problem.to_string().replace(&folder.path().display().to_string(), "FOLDER");
        read("token", &SecretSource::File(file)).map_err(shown)
    }

    #[test]
    fn one_end_of_a_line_is_none_of_the_secret_s() {
        assert_eq!(of(b"s3cr3t"), Ok("s3cr3t".to_owned()));
        assert_eq!(of(b"s3cr3t\n"), Ok("s3cr3t".to_owned()));
        assert_eq!(of(b"s3cr3t\r\n"), Ok("s3cr3t".to_owned()));
        assert_eq!(of(b" two\nlines \n\n"), Ok(" two\nlines \n".to_owned()));
    }

    #[test]
    fn what_is_no_secret_is_refused_without_its_content() {
        let place = "the secret `token` cannot be read from the file FOLDER/token: ";
        let long = vec![b'x'; 64 << 10];
        assert_eq!(of(&long).map(|secret| secret.len()), Ok(64 << 10));
        assert_eq!(of(&[&long[..], b"\n"].concat()).map(|secret| secret.len()), Ok(64 << 10));
        assert_eq!(of(&[&long[..], b"y"].concat()), Err(format!("{place}it is longer than 64KiB")));
        assert_eq!(of(b""), Err(format!("{place}it is empty")));
        assert_eq!(of(b"\n"), Err(format!("{place}it is empty")));
        assert_eq!(of(b"s3cr3t\xff"), Err(format!("{place}it is not UTF-8 text")));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = read("key", &SecretSource::Env("TIDEGATE_TEST_NOT_SET".to_owned())).expect_err("it is not set");
        assert_eq!(
            missing.to_string(),
            "the secret `key` cannot be read from the variable TIDEGATE_TEST_NOT_SET: it is not set"
        );
        assert!(missing.hint().expect("a hint").contains("set TIDEGATE_TEST_NOT_SET"));
        let missing = read("key", &SecretSource::File("/nowhere/token".into())).expect_err("it is not there");
        assert!(missing.to_string().contains("/nowhere/token: No such file"), "{missing}");
    }
}
