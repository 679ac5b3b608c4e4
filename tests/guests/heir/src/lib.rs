//! A count that outlives its version, in `x-count`. Its config says how it leaves it and what it makes of what is left to
//! it:
//!
//! ```json
//! { "leaving": "count", "inheriting": "sum" }
//! ```
//!
//! `x-inherited` says how many snapshots its instance was given, `x-outside` what becomes of an attempt to leave one
//! outside `shutdown`.

use serde::Deserialize;
use std::time::Duration;
use tidegate_sdk::lifecycle;
use tidegate_sdk::prelude::*;

/// What `shutdown` does.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Leaving {
    /// Leave the count.
    #[default]
    Count,
    /// Wait for a quarter of a second, then leave it.
    CountLater,
    /// Leave something else first, then the count.
    CountAtLast,
    /// Leave it and return an error.
    CountThenFail,
    /// Leave it and trap.
    CountThenTrap,
    /// Leave it and never return.
    CountThenSpin,
    /// Leave eight megabytes if they are taken.
    Giant,
    /// Leave nothing.
    Nothing,
}

/// What `configure` does with what is left.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Inheriting {
    /// Add it up.
    #[default]
    Sum,
    /// Look away.
    Nothing,
    /// Return an error if there is something.
    Refuse,
    /// Trap if there is something.
    Trap,
    /// Never return if there is something.
    Spin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    leaving: Leaving,
    #[serde(default)]
    inheriting: Inheriting,
}

struct Heir {
    leaving: Leaving,
    inherited: usize,
    count: u64,
}

#[tidegate_sdk::plugin]
impl Plugin for Heir {
    type Config = Config;

    fn configure(config: Config) -> Result<Self> {
        let mut heir = Self { leaving: config.leaving, inherited: 0, count: 0 };
        if matches!(config.inheriting, Inheriting::Nothing) {
            return Ok(heir);
        }
        for snapshot in lifecycle::snapshots() {
            match config.inheriting {
                Inheriting::Sum | Inheriting::Nothing => {}
                Inheriting::Refuse => return Err("I want no snapshot".into()),
                Inheriting::Trap => std::process::abort(),
                Inheriting::Spin => spin(),
            }
            heir.inherited += 1;
            heir.count += u64::from_le_bytes(snapshot.try_into().map_err(|_| "not a count")?);
        }
        Ok(heir)
    }

    fn on_response(&mut self, _request: &Request, response: &mut Response) -> Result<()> {
        self.count += 1;
        response.set_header("x-count", self.count.to_string())?;
        response.set_header("x-inherited", self.inherited.to_string())?;
        response.set_header("x-late", lifecycle::snapshots().len().to_string())?;
        response.set_header("x-outside", format!("{:?}", self.leave()))?;
        Ok(())
    }

    fn shutdown(&mut self, _deadline: Deadline) -> Result<()> {
        match self.leaving {
            Leaving::Count => self.leave()?,
            Leaving::CountLater => {
                std::thread::sleep(Duration::from_millis(250));
                self.leave()?;
            }
            Leaving::CountAtLast => {
                lifecycle::leave_snapshot(b"not this")?;
                self.leave()?;
            }
            Leaving::CountThenFail => {
                self.leave()?;
                return Err("and yet I fail".into());
            }
            Leaving::CountThenTrap => {
                self.leave()?;
                std::process::abort();
            }
            Leaving::CountThenSpin => {
                self.leave()?;
                spin();
            }
            Leaving::Giant => {
                if let Err(error) = lifecycle::leave_snapshot(&vec![0; 8 << 20]) {
                    log::info!("{error}");
                }
            }
            Leaving::Nothing => {}
        }
        Ok(())
    }
}

impl Heir {
    fn leave(&self) -> std::result::Result<(), lifecycle::SnapshotError> {
        lifecycle::leave_snapshot(&self.count.to_le_bytes())
    }
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}
