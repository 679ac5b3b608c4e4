//! Secrets that the operator has named in the plugin's grants: `secrets = ["name"]`. They never stand in the configuration file
//! or the log.
//!
//! ```
//! # fn main() -> tidegate_sdk::Result<()> {
//! // In a native test a secret is there once the test has set it.
//! tidegate_sdk::testing::secrets::set("api-token", "hunter2");
//!
//! let token = tidegate_sdk::secrets::get("api-token")?.ok_or("the operator has given no secret `api-token`")?;
//! let field = format!("Bearer {}", token.expose());
//! assert_eq!(format!("{token:?}"), "Secret(..)");
//! # Ok(())
//! # }
//! ```

use crate::config_store::{ValueError, backend};

/// A secret. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it is. Do not log it, and do not keep it longer than needed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The secret of this name; `None` if it has not been granted.
///
/// # Errors
/// When the host cannot tell.
pub fn get(name: &str) -> Result<Option<Secret>, ValueError> {
    Ok(backend::get(name)?.map(Secret))
}
