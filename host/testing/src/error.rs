//! Why there is nothing to test.

use std::path::PathBuf;

use tidegate_runtime::LoadError;

/// Why a plugin cannot be tested.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The component cannot be read.
    #[error("{} cannot be read: {problem}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A gateway would refuse the plugin.
    #[error("{}", told(.0))]
    Refused(#[from] LoadError),
    /// This machine runs no guests.
    #[error("this machine runs no guests: {0}")]
    Machine(String),
}

/// With what to do about it.
fn told(error: &LoadError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    }
}
