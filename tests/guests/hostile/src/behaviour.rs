//! The names of what a hook can be told to do.

use serde::Deserialize;
use tidegate_sdk::prelude::*;

/// One behaviour and its amount, written `sleep` or `sleep=250`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Behaviour {
    pub(crate) kind: Kind,
    amount: Option<u64>,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal $(, $unit:literal = $default:literal)?;)+) => {
        /// What is done.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) enum Kind {
            #[default]
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Kind {
            const ALL: &[(&'static str, Self)] = &[$(($name, Self::$kind)),+];

            /// The unit of its amount, and the amount if none is given.
            fn unit(self) -> Option<(&'static str, u64)> {
                match self {
                    $($(Self::$kind => Some(($unit, $default)),)?)+
                    _ => None,
                }
            }
        }
    };
}

// The first is the default.
kinds! {
    /// Return `forward`, or ok.
    Forward = "forward";
    /// The same, by the name that suits `configure` and `shutdown`.
    Ok = "ok";
    /// Do what the request's header says.
    FromHeader = "from-header";
    /// Ask for the body.
    ReadBody = "read-body";
    /// Replace the body by its length in bytes.
    EchoLength = "echo-length";
    /// Replace the body by itself in upper case.
    Upper = "upper";

    /// Compute for ever.
    Spin = "spin";
    /// Call itself without end.
    Recurse = "recurse";
    /// Allocate without end, and abort when there is no more.
    Allocate = "allocate";
    /// Allocate without end, and go on trying when there is no more.
    AllocateForever = "allocate-forever";
    /// Copy this many bytes from one place to another, for ever.
    Copy = "copy", "bytes" = 8_388_608;
    /// Sleep so long, once.
    Sleep = "sleep", "ms" = 3_600_000;
    /// Sleep so long, again and again, for ever.
    Doze = "doze", "ms" = 1;
    /// Compute for so long, by the clock, and forward.
    Busy = "busy", "ms" = 10;
    /// Write lines to the log for ever.
    LogFlood = "log-flood";
    /// Write a line of so many bytes to the log.
    LogGiant = "log-giant", "bytes" = 1_048_576;
    /// Write a line to stdout and one to stderr.
    Print = "print";
    /// Log the phase, the reason of the stop, and what is left to this call.
    Report = "report";
    /// Return the phase and the reason of the stop as an error.
    Tell = "tell";
    /// Execute `unreachable`.
    Trap = "trap";
    /// Panic.
    Panic = "panic";
    /// Exit the process, as a program would.
    Exit = "exit";
    /// Return an error.
    Error = "error";
    /// Return an error whose text has so many bytes, or as many as there is memory for.
    GiantString = "giant-string", "bytes" = 200_000_000;
    /// Return an error whose text is not UTF-8.
    InvalidUtf8 = "invalid-utf8";

    /// Append so many header fields; an error names the refusal.
    ManyHeaders = "forty-thousand-headers", "count" = 40_000;
    /// Set a header field of so many bytes; an error names the refusal.
    GiantHeader = "giant-header", "bytes" = 1_048_576;
    /// Set a header field with CR LF in it; an error names the refusal.
    HeaderInjection = "header-injection";
    /// Set a header field that the host owns; an error names the refusal.
    ForbiddenHeader = "forbidden-header";
    /// Set a path with CR LF in it; an error names the refusal.
    PathInjection = "path-injection";
    /// Choose an upstream that is not there; an error names the refusal.
    UnknownUpstream = "unknown-upstream";
    /// Leave so many notes; an error names the refusal.
    ManyNotes = "many-notes", "count" = 1_000;

    /// Answer with a plain reply.
    Reply = "reply";
    /// Answer with so many header fields.
    ReplyManyHeaders = "reply-forty-thousand-headers", "count" = 40_000;
    /// Answer with CR LF in a header field.
    ReplyHeaderInjection = "reply-header-injection";
    /// Answer with a header field that the host owns.
    ReplyForbiddenHeader = "reply-forbidden-header";
    /// Answer with this status.
    ReplyStatus = "reply-status", "count" = 99;
    /// Answer with a body of so many bytes, or as many as there is memory for; from a body hook, replace the body.
    GiantBody = "giant-body", "bytes" = 67_108_864;
}

impl Behaviour {
    /// What the request's header says, if this is `from-header`.
    pub(crate) fn or_from(self, request: &Request, header: &str) -> Result<Self> {
        match (self.kind, request.header(header)) {
            (Kind::FromHeader, Some(behaviour)) => Ok(Self::try_from(behaviour)?),
            (Kind::FromHeader, None) => Ok(Self::default()),
            _ => Ok(self),
        }
    }

    /// With the amount that `config` has for its unit, or the default one.
    pub(crate) fn or_amount(self, config: impl FnOnce(&str) -> Option<u64>) -> Self {
        let amount = self.amount.or_else(|| self.kind.unit().map(|(unit, default)| config(unit).unwrap_or(default)));
        Self { amount, ..self }
    }

    pub(crate) fn amount(self) -> u64 {
        self.amount.unwrap_or_default()
    }

    /// The amount as a size in memory.
    pub(crate) fn size(self) -> usize {
        usize::try_from(self.amount()).unwrap_or(usize::MAX)
    }
}

impl TryFrom<String> for Behaviour {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, amount) = match text.split_once('=') {
            Some((name, amount)) => (name, Some(amount.parse().map_err(|_| format!("`{amount}` is no amount"))?)),
            None => (text.as_str(), None),
        };
        match Kind::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => Ok(Self { kind: *kind, amount }),
            None => Err(format!("there is no behaviour `{name}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_comes_from_the_text_then_the_config_then_the_kind() -> Result<()> {
        let amount = |text: &str, config| {
            Behaviour::try_from(text.to_owned()).map(|behaviour| behaviour.or_amount(|_| config).amount())
        };
        assert_eq!(amount("sleep=5", Some(7))?, 5);
        assert_eq!(amount("sleep", Some(7))?, 7);
        assert_eq!(amount("doze", None)?, 1);
        assert!(amount("sleep=long", None).is_err());
        assert!(amount("slepp", None).is_err());
        Ok(())
    }
}
