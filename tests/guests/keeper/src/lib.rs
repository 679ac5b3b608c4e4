//! Does to key-value buckets and granted values what a request tells it to, and answers with what came of it.
//!
//! | header | is |
//! |---|---|
//! | `x-op` | what to do; see `Keeper::obey` |
//! | `x-bucket`, `x-key`, `x-value`, `x-delta`, `x-cursor`, `x-count`, `x-size` | what with |
//!
//! A value comes back as the body with 200, an absent one as 404, and an error as 409 with its text.

use tidegate_sdk::bindings::imports::wasi::config::store as config;
use tidegate_sdk::bindings::imports::wasi::keyvalue::{atomics, store};
use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Keeper;

#[tidegate_sdk::plugin]
impl Plugin for Keeper {
    fn on_request(&mut self, request: &mut Request) -> Result<Verdict> {
        let reply = match Told(request).obey() {
            Ok(Some(value)) => Reply::new(200).body(value),
            Ok(None) => Reply::new(404),
            Err(Failed::Store(error)) => Reply::new(409).body(shown(&error)),
            Err(Failed::Plugin(error)) => return Err(error.into()),
        };
        Ok(Verdict::Respond(reply))
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        // Only where it has been told a secret: the report must not have it.
        match config::get("token") {
            Ok(Some(token)) if config::get("loud").is_ok_and(|loud| loud.is_some()) => {
                Err(format!("stopped with {token}").into())
            }
            _ => Ok(()),
        }
    }
}

enum Failed {
    Store(store::Error),
    Plugin(String),
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

fn shown(error: &store::Error) -> String {
    match error {
        store::Error::NoSuchStore => "no-such-store".to_owned(),
        store::Error::AccessDenied => "access-denied".to_owned(),
        store::Error::Other(what) => format!("other: {what}"),
    }
}

/// What a request says.
struct Told<'r>(&'r Request);

impl Told<'_> {
    fn text(&self, name: &str) -> String {
        self.0.header(name).unwrap_or_default()
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// `x-value`, or `x-size` bytes of nothing in particular.
    fn value(&self) -> Vec<u8> {
        match usize::try_from(self.number("x-size")) {
            Ok(size) if size > 0 => vec![b'x'; size],
            _ => self.text("x-value").into_bytes(),
        }
    }

    fn bucket(&self) -> std::result::Result<store::Bucket, Failed> {
        Ok(store::open(&self.text("x-bucket"))?)
    }

    fn obey(&self) -> std::result::Result<Option<Vec<u8>>, Failed> {
        let key = self.text("x-key");
        let done = Ok(Some(Vec::new()));
        match self.text("x-op").as_str() {
            "get" => Ok(self.bucket()?.get(&key)?),
            "exists" => Ok(self.bucket()?.exists(&key)?.then(Vec::new)),
            "set" => {
                self.bucket()?.set(&key, &self.value())?;
                done
            }
            "delete" => {
                self.bucket()?.delete(&key)?;
                done
            }
            "keys" => {
                let cursor = self.text("x-cursor");
                let page = self.bucket()?.list_keys((!cursor.is_empty()).then_some(&*cursor))?;
                Ok(Some(page.keys.join("\n").into_bytes()))
            }
            // How many there are on all pages, and on the first.
            "count" => {
                let (bucket, mut cursor, mut pages) = (self.bucket()?, None, Vec::new());
                loop {
                    let page = bucket.list_keys(cursor.as_deref())?;
                    pages.push(page.keys.len());
                    cursor = page.cursor;
                    if cursor.is_none() {
                        let first = pages.first().copied().unwrap_or_default();
                        return Ok(Some(format!("{} {first}", pages.iter().sum::<usize>()).into_bytes()));
                    }
                }
            }
            "increment" => {
                let sum = atomics::increment(&self.bucket()?, &key, self.number("x-delta"))?;
                Ok(Some(sum.to_string().into_bytes()))
            }
            // Append to what is there, again and again until nobody was first.
            "append" => {
                let mut claim = atomics::Cas::new(&self.bucket()?, &key)?;
                loop {
                    let mut value = claim.current()?.unwrap_or_default();
                    value.extend(self.value());
                    match atomics::swap(claim, &value) {
                        Ok(()) => return Ok(Some(value)),
                        Err(atomics::CasError::CasFailed(newer)) => claim = newer,
                        Err(atomics::CasError::StoreError(error)) => return Err(error.into()),
                    }
                }
            }
            // Change a key between the look and the swap: the swap has to fail, and to say what is there now.
            "late-swap" => {
                let bucket = self.bucket()?;
                let claim = atomics::Cas::new(&bucket, &key)?;
                bucket.set(&key, b"another")?;
                match atomics::swap(claim, &self.value()) {
                    Ok(()) => Ok(None),
                    Err(atomics::CasError::CasFailed(newer)) => Ok(newer.current()?),
                    Err(atomics::CasError::StoreError(error)) => Err(error.into()),
                }
            }
            // Set so many keys, and say how many were taken and what was said of the first that was not.
            "flood" => {
                let bucket = self.bucket()?;
                for number in 0..self.number("x-count") {
                    if let Err(error) = bucket.set(&format!("{key}{number}"), &self.value()) {
                        return Ok(Some(format!("{number} {}", shown(&error)).into_bytes()));
                    }
                }
                Ok(Some(b"all".to_vec()))
            }
            // Hold as many claims as there can be, and say what was said of the first that could not be held.
            "claim" => {
                let (bucket, mut claims) = (self.bucket()?, Vec::new());
                loop {
                    match atomics::Cas::new(&bucket, &key) {
                        Ok(claim) => claims.push(claim),
                        Err(error) => return Ok(Some(format!("{} {}", claims.len(), shown(&error)).into_bytes())),
                    }
                }
            }
            // Hold as many buckets open as there can be.
            "hoard" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(self.bucket()?);
                }
            }
            "value" => Ok(config::get(&key).map_err(of_config)?.map(String::into_bytes)),
            "values" => {
                let all = config::get_all().map_err(of_config)?;
                let lines: Vec<String> = all.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
                Ok(Some(lines.join("\n").into_bytes()))
            }
            other => self.blab(other, &config::get(&key).map_err(of_config)?.unwrap_or_default()),
        }
    }

    /// Tell a value in every way there is.
    fn blab(&self, how: &str, value: &str) -> std::result::Result<Option<Vec<u8>>, Failed> {
        match how {
            "blab-log" => {
                log::info!("the value is {value}, and here it is again: {value}");
                log::warn!(target: value, "it is in the context");
                log::error!("{}{value}", "long ".repeat(1_637));
            }
            "blab-print" => {
                println!("the value is {value}");
                eprintln!("the value is {value}");
                // In pieces, and across the place where a line without end is cut.
                let (first, second) = value.split_at(value.len() / 2);
                print!("{first}");
                println!("{second}");
                println!("{}{value}", "x".repeat(8_192 - 4));
            }
            "blab-return" => return Err(Failed::Plugin(format!("{}the value is {value}", "long ".repeat(1_634)))),
            "blab-trap" => panic!("the value is {value}"),
            other => return Err(Failed::Plugin(format!("no such operation: {other}"))),
        }
        Ok(Some(Vec::new()))
    }
}

fn of_config(error: config::Error) -> Failed {
    Failed::Plugin(format!("{error:?}"))
}
