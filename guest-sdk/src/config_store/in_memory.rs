//! Values and secrets in memory, for tests.

use super::ValueError;
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Default)]
struct Values {
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

thread_local! {
    static VALUES: RefCell<Values> = RefCell::default();
}

/// A value of the grant `config`, for the test that runs on this thread.
pub fn set(key: &str, value: &str) {
    VALUES.with_borrow_mut(|values| values.config.insert(key.to_owned(), value.to_owned()));
}

/// A value of the grant `secrets`, for the test that runs on this thread.
pub(crate) fn set_secret(name: &str, value: &str) {
    VALUES.with_borrow_mut(|values| values.secrets.insert(name.to_owned(), value.to_owned()));
}

pub(crate) fn get(key: &str) -> Result<Option<String>, ValueError> {
    VALUES.with_borrow(|values| Ok(values.config.get(key).or_else(|| values.secrets.get(key)).cloned()))
}

pub(crate) fn all() -> Result<Vec<(String, String)>, ValueError> {
    VALUES.with_borrow(|values| Ok(values.config.iter().map(|(k, v)| (k.clone(), v.clone())).collect()))
}

#[cfg(test)]
mod tests {
    use crate::testing;
    use crate::{config_store, secrets};

    #[test]
    fn secrets_are_given_by_name_only_and_do_not_show() -> crate::Result<()> {
        testing::config_store::set("region", "eu");
        testing::secrets::set("token", "hunter2");
        assert_eq!(config_store::get("region")?.as_deref(), Some("eu"));
        assert_eq!(config_store::all()?, [("region".to_owned(), "eu".to_owned())]);
        let token = secrets::get("token")?.ok_or("a token")?;
        assert_eq!(token.expose(), "hunter2");
        assert_eq!(format!("{token:?}"), "Secret(..)");
        assert!(secrets::get("other")?.is_none());
        Ok(())
    }
}
