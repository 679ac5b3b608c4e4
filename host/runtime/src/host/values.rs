//! `wasi:config/store`: values and secrets that have been granted by name.

use crate::bindings::config;
use crate::host::Guest;

impl config::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, config::Error>> {
        let values = self.grants.values.as_deref();
        Ok(Ok(values.and_then(|values| values.secrets.get(&key).or_else(|| values.config.get(&key)).cloned())))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::Error>> {
        let values = self.grants.values.as_deref();
        Ok(Ok(values.map(|values| values.config.clone().into_iter().collect()).unwrap_or_default()))
    }
}
