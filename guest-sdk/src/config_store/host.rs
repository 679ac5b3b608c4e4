//! `wasi:config/store` of the host.

use super::ValueError;
use crate::bindings::imports::wasi::config::store;

pub(crate) fn get(key: &str) -> Result<Option<String>, ValueError> {
    Ok(store::get(key)?)
}

pub(crate) fn all() -> Result<Vec<(String, String)>, ValueError> {
    Ok(store::get_all()?)
}

impl From<store::Error> for ValueError {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Upstream(what) | store::Error::Io(what) => Self(what),
        }
    }
}
