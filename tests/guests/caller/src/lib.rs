//! Makes HTTP requests as it is told, and answers with what became of them: a list of [`call::Became`] as JSON.
//!
//! What to do is a [`Deed`] in the request's `x-call`, as JSON; without that field the request goes on. The config can have
//! one for `configure` and one for `shutdown`.

mod call;

use call::{Call, Pending};
use serde::Deserialize;
use tidegate_sdk::prelude::*;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    configure: Option<Call>,
    shutdown: Option<Call>,
}

/// What to do with a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Deed {
    /// Make it and read the answer.
    Make(Call),
    /// So many, all of them at once.
    AtOnce(usize, Call),
    /// One after the other, without end.
    Forever(Call),
    /// Begin it, and return while it is under way.
    Leave(Call),
    /// Read the head of the answer, and return with the body unread.
    LeaveBody(Call),
    /// Go on with what was left.
    Resume,
    /// Begin it, then compute without end.
    Spin(Call),
}

struct Caller {
    config: Config,
    left: Vec<Pending>,
}

#[tidegate_sdk::plugin]
impl Plugin for Caller {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if let Some(call) = &config.configure {
            let became = call.make();
            if became.error.is_some() {
                return Err(serde_json::to_string(&became)?.into());
            }
        }
        Ok(Self { config, left: Vec::new() })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let Some(deed) = request.header("x-call") else { return Ok(Verdict::Forward) };
        let became = match serde_json::from_slice(deed.as_ref())? {
            Deed::Make(call) => vec![call.make()],
            Deed::AtOnce(count, call) => {
                let begun: Vec<Pending> = (0..count).map(|_| call.begin()).collect();
                begun.into_iter().map(|pending| pending.finish(&call)).collect()
            }
            Deed::Forever(call) => loop {
                call.make();
            },
            Deed::Leave(call) => {
                self.left.push(call.begin());
                Vec::new()
            }
            Deed::LeaveBody(call) => {
                self.left.push(call.begin().head());
                Vec::new()
            }
            Deed::Resume => self.left.drain(..).map(|pending| pending.finish(&Call::default())).collect(),
            Deed::Spin(call) => {
                let _pending = call.begin();
                loop {
                    std::hint::black_box(());
                }
            }
        };
        Ok(Verdict::Respond(Reply::json(200, &became)?))
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        match &self.config.shutdown {
            Some(call) => match call.make().error {
                Some(error) => Err(error.into()),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}
