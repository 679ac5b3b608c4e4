//! Misbehaves on demand, in any hook. Its config says how:
//!
//! ```json
//! { "on_request": "spin", "shutdown": "sleep=2000" }
//! ```
//!
//! The keys are the hooks (`configure`, `on_request`, `on_request_body`, `on_response`, `on_response_body`,
//! `shutdown`), the values behaviours: see [`Behaviour`] for their names. A number after `=` is the behaviour's
//! amount (milliseconds, bytes or a count); `ms`, `bytes` and `count` in the config are amounts for those without.
//!
//! With `"from-header"`, the request names the behaviour of that hook itself, in `x-misbehave` for `on_request`,
//! `x-misbehave-request-body`, `x-misbehave-response` or `x-misbehave-response-body`; without that header the hook
//! forwards. A hook that is not named forwards.

mod behaviour;
mod deed;

use behaviour::{Behaviour, Kind};
use serde::Deserialize;
use tidegate_sdk::prelude::*;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    configure: Behaviour,
    on_request: Behaviour,
    on_request_body: Behaviour,
    on_response: Behaviour,
    on_response_body: Behaviour,
    shutdown: Behaviour,
    /// The amount of `sleep` and the like, in milliseconds.
    ms: Option<u64>,
    /// The amount of what is about sizes.
    bytes: Option<u64>,
    /// The amount of what is about numbers.
    count: Option<u64>,
}

struct Hostile(Config);

#[tidegate_sdk::plugin]
impl Plugin for Hostile {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        let this = Self(config);
        this.plain(this.0.configure)?;
        Ok(this)
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let behaviour = self.0.on_request.or_from(request, "x-misbehave")?;
        let behaviour = self.amount(behaviour);
        if deed::edit_request(behaviour, request)? {
            return Ok(Verdict::Forward);
        }
        head(behaviour)
    }

    fn on_request_body(&mut self, request: &mut Request, body: Vec<u8>) -> Result<BodyVerdict> {
        let behaviour = self.0.on_request_body.or_from(request, "x-misbehave-request-body")?;
        self::body(self.amount(behaviour), body)
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<Verdict> {
        let behaviour = self.0.on_response.or_from(request, "x-misbehave-response")?;
        let behaviour = self.amount(behaviour);
        if deed::edit_response(behaviour, response)? {
            return Ok(Verdict::Forward);
        }
        head(behaviour)
    }

    fn on_response_body(&mut self, request: &Request, _response: &mut Response, body: Vec<u8>) -> Result<BodyVerdict> {
        let behaviour = self.0.on_response_body.or_from(request, "x-misbehave-response-body")?;
        self::body(self.amount(behaviour), body)
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        self.plain(self.0.shutdown)
    }
}

impl Hostile {
    /// The behaviour with its amount, from the config if it brings none.
    fn amount(&self, behaviour: Behaviour) -> Behaviour {
        let config = [("ms", self.0.ms), ("bytes", self.0.bytes), ("count", self.0.count)];
        behaviour.or_amount(|unit| config.iter().find(|(name, _)| *name == unit).and_then(|(_, amount)| *amount))
    }

    /// A hook that has no message before it.
    fn plain(&self, behaviour: Behaviour) -> Result<()> {
        deed::anywhere(self.amount(behaviour))
    }
}

fn head(behaviour: Behaviour) -> Result<Verdict> {
    if behaviour.kind == Kind::ReadBody {
        return Ok(Verdict::ReadBody);
    }
    if let Some(reply) = deed::reply(behaviour) {
        return Ok(Verdict::Respond(reply));
    }
    deed::anywhere(behaviour)?;
    Ok(Verdict::Forward)
}

fn body(behaviour: Behaviour, body: Vec<u8>) -> Result<BodyVerdict> {
    match behaviour.kind {
        Kind::EchoLength => return Ok(BodyVerdict::Replace(body.len().to_string().into_bytes())),
        Kind::Upper => return Ok(BodyVerdict::Replace(body.to_ascii_uppercase())),
        Kind::GiantBody => return Ok(BodyVerdict::Replace(deed::filler(behaviour.size()))),
        _ => {}
    }
    if let Some(reply) = deed::reply(behaviour) {
        return Ok(BodyVerdict::Respond(reply));
    }
    deed::anywhere(behaviour)?;
    Ok(BodyVerdict::Forward)
}
