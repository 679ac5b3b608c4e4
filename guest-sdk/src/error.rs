//! The error a hook returns: whatever `?` was used on, told as one line with all its causes.

use std::error::Error as StdError;
use std::fmt;

/// What a hook returns unless it says otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, ready to be told to the host.
///
/// `?` turns every [`std::error::Error`] and every string into one; `anyhow::Error` as well. Its text names the error
/// and then its causes, outermost first: `sending the batch: connection refused`. The host writes that text to its
/// log and never shows it to a client.
///
/// Like `anyhow::Error`, it is not itself a [`std::error::Error`]; that is what makes `?` work on all of those.
///
/// ```
/// use tidegate_sdk::Result;
///
/// fn port(text: &str) -> Result<u16> {
///     if text.is_empty() {
///         return Err("no port is given".into());
///     }
///     Ok(text.parse()?)
/// }
///
/// assert_eq!(port("").unwrap_err().to_string(), "no port is given");
/// assert_eq!(port("many").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Error(Box<dyn StdError + Send + Sync>);

impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        if cause.is_none() {
            return Ok(());
        }
        let mut told = self.0.to_string();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many an error repeats its cause in its own text.
            if !told.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            told = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn the_text_names_the_whole_chain_outermost_first() {
        let error = Error::from(Layer("a", Some(Box::new(Layer("b", Some(Box::new(Layer("c", None))))))));
        assert_eq!(error.to_string(), "a: b: c");
    }

    #[test]
    fn a_cause_that_is_already_told_is_not_told_twice() {
        let error = Error::from(Layer("a: b", Some(Box::new(Layer("b", Some(Box::new(Layer("c", None))))))));
        assert_eq!(error.to_string(), "a: b: c");
    }
}
