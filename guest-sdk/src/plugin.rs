//! The type an author writes, and what its methods may return.

use crate::{Error, Result};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};

/// A plugin. Write it as an `impl` block under [`#[tidegate_sdk::plugin]`](macro@crate::plugin), which turns the
/// methods you write into exports and implements this trait.
///
/// | method | may return | called |
/// |---|---|---|
/// | `fn configure(config: Self::Config) -> Result<Self>` | | once per instance, first |
/// | `fn on_request(&mut self, request: &mut Request)` | `Result<Verdict>`, `Result<Reply>`, `Result<()>` | with the head of each request |
/// | `fn on_request_body(&mut self, request: &mut Request, body: Vec<u8>)` | `Result<BodyVerdict>`, `Result<Vec<u8>>`, `Result<()>` | after [`Verdict::ReadBody`](crate::Verdict::ReadBody) |
/// | `fn on_response(&mut self, request: &Request, response: &mut Response)` | as `on_request` | with the head of each response |
/// | `fn on_response_body(&mut self, request: &Request, response: &mut Response, body: Vec<u8>)` | as `on_request_body` | after [`Verdict::ReadBody`](crate::Verdict::ReadBody) |
/// | `fn on_deferred(&mut self, payload: Vec<u8>)` | `Result<()>` | later, for each payload given to [`defer`](crate::background::defer) |
/// | `fn on_tick(&mut self)` | `Result<()>` | once per `tick` of the plugin's configuration, in every instance |
/// | `fn shutdown(&mut self, deadline: Deadline)` | `Result<()>` | once per instance, last |
///
/// Every one of them may be left out. `()` means forward. The error may be any type that `?` could turn into an
/// [`Error`].
///
/// Two things about `configure`:
/// - `type Config` is the [serde](https://serde.rs) type of the plugin's `[plugin.config]`. Without it, `configure`
///   takes no config, and a config that is not empty is refused. Put `#[serde(deny_unknown_fields)]` on it, so that
///   operators learn of their typing errors.
/// - It may take a [`cx: &mut Context`](crate::Context) as its last parameter, to register parts that need an orderly
///   end. Such a plugin exports the shutdown hook, with or without a `shutdown` of its own.
///
/// Without `configure`, the type must be [`Default`], and the instance is made when the first hook runs.
///
/// # An example of each hook
///
/// `configure` with a config, and `on_request` that answers some requests itself:
/// ```
/// use serde::Deserialize;
/// use tidegate_sdk::prelude::*;
///
/// struct Gone {
///     prefix: String,
/// }
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     prefix: String,
/// }
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Gone {
///     type Config = Config;
///
///     fn configure(config: Config) -> Result<Self> {
///         if !config.prefix.starts_with('/') {
///             return Err("`prefix` has to begin with `/`".into());
///         }
///         Ok(Self { prefix: config.prefix })
///     }
///
///     fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
///         if request.path().starts_with(&self.prefix) {
///             return Ok(Reply::new(410).header("content-type", "text/plain").body("gone\n").into());
///         }
///         request.set_header("x-checked", "1")?;
///         Ok(Verdict::Forward)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut plugin = Gone::configure(Config { prefix: "/v1".into() })?;
/// let mut old = Request::builder().target("/v1/users").build();
/// assert!(matches!(plugin.on_request(&mut old)?, Verdict::Respond(reply) if reply.status == 410));
/// let mut new = Request::builder().target("/v2/users").build();
/// assert_eq!(plugin.on_request(&mut new)?, Verdict::Forward);
/// assert_eq!(new.header("x-checked").as_deref(), Some("1"));
/// # Ok(())
/// # }
/// ```
///
/// `on_request_body`: the head decides whether the body is worth gathering.
/// ```
/// use tidegate_sdk::prelude::*;
///
/// #[derive(Default)]
/// struct JsonOnly;
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for JsonOnly {
///     fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
///         let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
///         Ok(if json { Verdict::ReadBody } else { Verdict::Forward })
///     }
///
///     fn on_request_body(&mut self, _request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
///         match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
///             Ok(_) => Ok(BodyVerdict::Forward),
///             Err(error) => Ok(Reply::new(400).body(format!("not JSON: {error}\n")).into()),
///         }
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut request = Request::builder().method("POST").header("content-type", "application/json").build();
/// assert_eq!(JsonOnly.on_request(&mut request)?, Verdict::ReadBody);
/// assert_eq!(JsonOnly.on_request_body(&mut request, b"[1]".to_vec())?, BodyVerdict::Forward);
/// assert!(matches!(JsonOnly.on_request_body(&mut request, b"[".to_vec())?, BodyVerdict::Respond(_)));
/// # Ok(())
/// # }
/// ```
///
/// `on_response` and `on_response_body`, with a note that carries state from the request to its response:
/// ```
/// use tidegate_sdk::prelude::*;
///
/// #[derive(Default)]
/// struct Shout;
///
/// #[tidegate_sdk::plugin]
/// impl Plugin for Shout {
///     fn on_request(&mut self, request: &mut Request) -> Result<()> {
///         if request.query().as_deref() == Some("loud") {
///             request.set_note("loud", "")?;
///         }
///         Ok(())
///     }
///
///     fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Verdict> {
///         if request.note("loud").is_none() || response.header("content-encoding").is_some() {
///             return Ok(Verdict::Forward);
///         }
///         response.set_header("x-loud", "1")?;
///         Ok(Verdict::ReadBody)
///     }
///
///     fn on_response_body(&mut self, _: &Request, _: &mut Response, body: Vec<u8>) -> Result<Vec<u8>> {
///         Ok(body.to_ascii_uppercase())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut request = Request::builder().target("/?loud").build();
/// let mut response = Response::builder().build();
/// Shout.on_request(&mut request)?;
/// assert_eq!(Shout.on_response(&request, &mut response)?, Verdict::ReadBody);
/// assert_eq!(Shout.on_response_body(&request, &mut response, b"hello".to_vec())?, b"HELLO");
/// # Ok(())
/// # }
/// ```
///
/// `on_deferred` and `on_tick` are in the example of [`background`](crate::background).
///
/// `shutdown` is in the example at the top of [the crate's documentation](crate), and for plugins made of parts in
/// that of [`Context`](crate::Context).
pub trait Plugin: Sized + 'static {
    /// The plugin's config, from `[plugin.config]`.
    type Config: DeserializeOwned;
}

/// The config of a plugin without `type Config`: it accepts an empty one only.
#[doc(hidden)]
#[derive(Debug)]
pub struct NoConfig;

impl<'de> Deserialize<'de> for NoConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let config = serde_json::Value::deserialize(deserializer)?;
        let empty = match &config {
            serde_json::Value::Null => true,
            serde_json::Value::Object(keys) => keys.is_empty(),
            _ => false,
        };
        if empty { Ok(Self) } else { Err(serde::de::Error::custom("this plugin takes no config")) }
    }
}

/// Reads a plugin's config. No text and `null` count as `{}`.
pub(crate) fn read_config<C: DeserializeOwned>(json: &str) -> Result<C> {
    let json = match json.trim() {
        "" | "null" => "{}",
        json => json,
    };
    serde_json::from_str(json).map_err(|error| format!("the plugin's config does not fit: {error}").into())
}

/// What a hook may return: a `Result` whose value says what to do, and whose error is any error.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what this hook may return",
    label = "return `Result<{Decision}>`, or a `Result` of something that converts into `{Decision}`"
)]
pub trait Outcome<Decision> {
    /// In the SDK's own types.
    ///
    /// # Errors
    /// The hook's.
    fn settle(self) -> Result<Decision>;
}

impl<T: Into<Decision>, E: Into<Error>, Decision> Outcome<Decision> for std::result::Result<T, E> {
    fn settle(self) -> Result<Decision> {
        match self {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_without_config_accepts_an_empty_one_only() -> Result<()> {
        for empty in ["", "{}", "null", " { } "] {
            read_config::<NoConfig>(empty)?;
        }
        let error = read_config::<NoConfig>(r#"{"nmae": 1}"#).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the plugin's config does not fit: this plugin takes no config"));
        Ok(())
    }

    #[test]
    fn an_empty_config_fills_a_type_with_defaults() -> Result<()> {
        #[derive(serde::Deserialize)]
        struct Config {
            #[serde(default)]
            batch: u32,
        }
        assert_eq!(read_config::<Config>("")?.batch, 0);
        let error = read_config::<Config>(r#"{"batch": "many"}"#).err().ok_or("a wrong type was accepted")?;
        assert!(error.to_string().contains("invalid type: string \"many\", expected u32"), "{error}");
        Ok(())
    }
}
