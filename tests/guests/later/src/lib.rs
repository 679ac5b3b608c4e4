//! Puts work off as a request says, and does in `on_deferred` what its payload says.
//!
//! `x-defer: 3 sleep=20` puts three payloads off that each sleep for 20 ms; without a number it is one; more of them follow
//! after a comma. With `x-reply` the request is answered with how many were taken and the last refusal: `taken 2, QueueFull`.
//! `x-busy: 30` computes for so many milliseconds by the clock before anything is put off.
//!
//! A payload is a deed, and whatever follows it after a blank is for its length: `ok`, `error`, `trap`, `spin`, `hang`,
//! `sleep=<ms>`, `again=<n>` (puts `again=<n - 1>` off, down to `ok`), `size=<bytes>` (a payload of so many bytes). The config
//! names the deeds of `on_tick` and `shutdown`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tidegate_sdk::background::{self, DeferError};
use tidegate_sdk::lifecycle;
use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// What `on_tick` does.
    on_tick: String,
    /// What `shutdown` does.
    shutdown: String,
    /// What `configure` puts off, unless it is empty.
    configure: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { on_tick: "ok".into(), shutdown: "ok".into(), configure: String::new() }
    }
}

struct Later {
    config: Config,
    deferred: u64,
    ticks: u64,
}

#[tidegate_sdk::plugin]
impl Plugin for Later {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        if !config.configure.is_empty() {
            put_off(&config.configure)?;
        }
        // So many instances of the former version, if one has handed over to this one.
        let inherited = lifecycle::snapshots().len() as u64;
        log::info!("inherited {inherited}");
        Ok(Self { config, deferred: 0, ticks: 0 })
    }

    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        if let Some(busy) = request.header("x-busy") {
            let (begun, busy) = (Instant::now(), Duration::from_millis(busy.parse()?));
            while begun.elapsed() < busy {
                black_box(());
            }
        }
        let (mut taken, mut refused) = (0, None);
        if let Some(asked) = request.header("x-defer") {
            for deeds in asked.split(", ") {
                let (count, deed) = match deeds.split_once(' ') {
                    Some((count, deed)) => (count.parse()?, deed),
                    None => (1_u64, deeds),
                };
                for _ in 0..count {
                    match put_off(deed) {
                        Ok(()) => taken += 1,
                        Err(error) => refused = Some(error),
                    }
                }
            }
        }
        if request.header("x-reply").is_none() {
            return Ok(Verdict::Forward);
        }
        let refused = refused.map_or("all".to_owned(), |error| format!("{error:?}"));
        Ok(Reply::new(200).body(format!("taken {taken}, {refused}")).into())
    }

    fn on_deferred(&mut self, payload: Vec<u8>) -> Result<()> {
        self.deferred += 1;
        let text = String::from_utf8(payload)?;
        log::info!("deferred {}", text.get(..text.len().min(40)).unwrap_or_default());
        deed(text.split(' ').next().unwrap_or_default())
    }

    fn on_tick(&mut self) -> Result<()> {
        self.ticks += 1;
        log::info!("tick {}", self.ticks);
        deed(&self.config.on_tick)
    }

    fn shutdown(&mut self, deadline: Deadline) -> Result<()> {
        let refused = background::defer(b"ok").err();
        let left = deadline.remaining().as_millis();
        log::info!("shutdown after {} deferred and {} ticks, {left} ms left, {refused:?}", self.deferred, self.ticks);
        // Nobody follows, mostly.
        let _ = lifecycle::leave_snapshot(b"later");
        deed(&self.config.shutdown)
    }
}

/// Puts off what is asked for, as a payload of the length that is asked for.
fn put_off(deed: &str) -> Result<(), DeferError> {
    match deed.strip_prefix("size=").and_then(|size| size.parse().ok()) {
        Some(size) => {
            let mut payload = b"ok ".to_vec();
            payload.resize(size, b'x');
            background::defer(&payload)
        }
        None => background::defer(deed.as_bytes()),
    }
}

fn deed(deed: &str) -> Result<()> {
    let (kind, amount) = deed.split_once('=').unwrap_or((deed, "0"));
    let amount: u64 = amount.parse()?;
    match kind {
        "ok" => Ok(()),
        "error" => Err("it could not be done".into()),
        "trap" => panic!("it could not be done"),
        "spin" => loop {
            black_box(());
        },
        "hang" => {
            std::thread::sleep(Duration::from_secs(86_400));
            Ok(())
        }
        "sleep" => {
            std::thread::sleep(Duration::from_millis(amount));
            Ok(())
        }
        "again" => {
            let next = if amount > 1 { format!("again={}", amount - 1) } else { "ok".to_owned() };
            Ok(put_off(&next)?)
        }
        other => Err(format!("there is no deed `{other}`").into()),
    }
}
