//! Values that the operator has named in the plugin's grants: `config = ["key"]`. (What a plugin is configured with is
//! [`Plugin::Config`](crate::Plugin).)
//!
//! ```
//! # fn main() -> tidegate_sdk::Result<()> {
//! // In a native test a value is there once the test has set it.
//! tidegate_sdk::testing::config_store::set("region", "eu");
//!
//! let region = tidegate_sdk::config_store::get("region")?.ok_or("the operator has given no `region`")?;
//! assert_eq!(region, "eu");
//! # Ok(())
//! # }
//! ```

#[cfg(target_arch = "wasm32")]
pub(crate) mod host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod in_memory;

#[cfg(target_arch = "wasm32")]
pub(crate) use host as backend;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use in_memory as backend;

use std::fmt;

/// Why there is no answer: what the host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(pub(crate) String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value cannot be had: {}", self.0)
    }
}

impl std::error::Error for ValueError {}

/// The value of a key; `None` if it has not been granted.
///
/// # Errors
/// When the host cannot tell.
pub fn get(key: &str) -> Result<Option<String>, ValueError> {
    backend::get(key)
}

/// All granted keys with their values. Secrets are not among them.
///
/// # Errors
/// When the host cannot tell.
pub fn all() -> Result<Vec<(String, String)>, ValueError> {
    backend::all()
}
