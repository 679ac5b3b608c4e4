//! Tells the gateway what a request's `x-tell` asks it to tell: numbers and lines. The answer's `x-told` has how that went.
//!
//! Several things are separated by `;`. A number is `count`, `set`, `add` or `observe`, then a name, a number and labels:
//! `count sent 2 sink=a`; a value in double quotes may have any JSON escapes, which stand for spaces, too. `log 5` writes so many
//! lines, `out`, `err` write the rest without an end of line, `outln` with one, `trap` ends it all.

use tidegate_sdk::metrics::{counter, gauge, histogram};
use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Teller;

#[tidegate_sdk::plugin]
impl Plugin for Teller {
    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let Some(told) = request.header("x-tell") else { return Ok(Verdict::Forward) };
        let outcomes = told.split(';').map(|one| tell(one.trim()));
        let outcomes = outcomes.collect::<Result<Vec<_>>>()?;
        Ok(Reply::new(200).header("x-told", outcomes.join(" ")).into())
    }
}

fn tell(what: &str) -> Result<String> {
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    match verb {
        "count" | "set" | "add" | "observe" => number(verb, rest),
        "log" => {
            for n in 0..rest.parse::<u32>()? {
                log::info!("line {n}");
            }
            Ok("ok".into())
        }
        "out" => {
            print!("{rest}");
            // Rust keeps an unfinished line; the host has to see it.
            std::io::Write::flush(&mut std::io::stdout())?;
            Ok("ok".into())
        }
        "outln" => {
            println!("{rest}");
            Ok("ok".into())
        }
        "err" => {
            eprint!("{rest}");
            Ok("ok".into())
        }
        "trap" => std::process::abort(),
        other => Err(format!("cannot {other:?}").into()),
    }
}

fn number(verb: &str, rest: &str) -> Result<String> {
    let mut words = rest.split(' ');
    let (name, by) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().parse::<f64>()?);
    let mut labels = Vec::new();
    for label in words {
        let (key, value) = label.split_once('=').ok_or("a label is name=value")?;
        let value = if value.starts_with('"') { serde_json::from_str(value)? } else { value.to_owned() };
        labels.push((key.to_owned(), value));
    }
    // A builder per kind, and a fold for each: they are types of their own.
    macro_rules! labelled {
        ($metric:expr) => {
            labels.into_iter().fold($metric(name), |metric, (key, value)| metric.label(key, value))
        };
    }
    let outcome = match verb {
        "count" => labelled!(counter).try_add(by),
        "set" => labelled!(gauge).try_set(by),
        "add" => labelled!(gauge).try_add(by),
        _ => labelled!(histogram).try_observe(by),
    };
    Ok(outcome.map_or_else(|error| format!("{error:?}"), |()| "ok".to_owned()))
}
