//! Puts a header on each request and on each response.

use serde::Deserialize;
use tidegate_sdk::prelude::*;

struct Stamp(Config);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The header's name.
    name: String,
    /// Its value.
    value: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { name: "x-stamped-by".to_owned(), value: "tidegate".to_owned() }
    }
}

#[tidegate_sdk::plugin]
impl Plugin for Stamp {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        Ok(Self(config))
    }

    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        request.set_header(&self.0.name, &self.0.value)?;
        Ok(())
    }

    fn on_response(&mut self, _request: &Request, response: &mut Response) -> Result<()> {
        response.set_header(&self.0.name, &self.0.value)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_stamped() -> Result<()> {
        let mut stamp = Stamp::configure(Config::default())?;
        let mut request = Request::builder().build();
        let mut response = Response::builder().header("x-stamped-by", "somebody else").build();
        stamp.on_request(&mut request)?;
        stamp.on_response(&request, &mut response)?;
        assert_eq!(request.header("x-stamped-by").as_deref(), Some("tidegate"));
        assert_eq!(response.headers().len(), 1);
        Ok(())
    }
}
