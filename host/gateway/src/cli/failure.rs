//! A command that could not do what was asked: what to show, and which code to exit with.

use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use clap::error::ErrorKind;

use crate::config::Diagnostics;
use crate::plugins::PluginProblem;

const ERROR: Style = AnsiColor::BrightRed.on_default().bold();
const HINT: Style = AnsiColor::BrightCyan.on_default().bold();

/// A command that could not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The config file. Exit code 2.
    Config(Diagnostics),
    /// One or more plugins. Exit code 2.
    Plugins(Vec<PluginProblem>),
    /// What was asked for makes no sense. Exit code 2.
    Usage(Message),
    /// The source of a plugin does not make one. Exit code 3.
    Build(Message),
    /// The gateway itself. Exit code 1.
    Gateway(Message),
}

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub struct Message {
    /// After `error:`.
    pub text: String,
    /// After `hint:`.
    pub hint: Option<String>,
}

impl Failure {
    /// The gateway itself failed.
    #[must_use]
    pub fn gateway(text: impl Into<String>) -> Self {
        Self::Gateway(Message { text: text.into(), hint: None })
    }

    /// What was asked for makes no sense.
    #[must_use]
    pub fn usage(text: impl Into<String>, hint: Option<impl Into<String>>) -> Self {
        Self::Usage(Message { text: text.into(), hint: hint.map(Into::into) })
    }

    /// The source of a plugin does not make one.
    #[must_use]
    pub fn build(text: impl Into<String>, hint: Option<impl Into<String>>) -> Self {
        Self::Build(Message { text: text.into(), hint: hint.map(Into::into) })
    }

    /// A command line that clap refused, in the grammar of all our errors. `None` if it is no refusal but help or the
    /// version, which clap shows best.
    #[must_use]
    pub fn of_usage(error: &clap::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => return None,
            _ => {}
        }
        let shown = error.render().to_string();
        let (mut text, mut tip) = (String::new(), None);
        for line in shown.trim_start_matches("error: ").lines() {
            if let Some(found) = line.trim().strip_prefix("tip: ") {
                tip = tip.or(Some(found));
                continue;
            }
            // The line for --help becomes the hint, and what was left out leaves no gap.
            let gap = line.is_empty() && text.ends_with("\n\n");
            if !gap && !line.starts_with("For more information") {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.truncate(text.trim_end().len());
        Some(Self::usage(text, Some(tip.unwrap_or("add `--help` to see what there is"))))
    }

    /// The code to exit with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Gateway(_) => 1,
            Self::Config(_) | Self::Plugins(_) | Self::Usage(_) => 2,
            Self::Build(_) => 3,
        }
    }

    /// The text, with escape sequences.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = match self {
            Self::Config(diagnostics) => diagnostics.render(),
            Self::Plugins(problems) => problems
                .iter()
                .map(|problem| message(&problem.to_string(), problem.hint().as_deref()))
                .collect::<Vec<_>>()
                .join("\n\n"),
            Self::Usage(Message { text, hint })
            | Self::Build(Message { text, hint })
            | Self::Gateway(Message { text, hint }) => message(text, hint.as_deref()),
        };
        text.push('\n');
        text
    }

    /// Show it on stderr; escape sequences only reach a terminal.
    pub fn show(&self) {
        // Nobody is left to tell if stderr is gone.
        let _ = anstream::stderr().lock().write_all(self.render().as_bytes());
    }
}

fn message(text: &str, hint: Option<&str>) -> String {
    let mut message = format!("{ERROR}error{ERROR:#}: {text}");
    if let Some(hint) = hint {
        let _ = write!(message, "\n{HINT}hint{HINT:#}: {hint}");
    }
    message
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Config(diagnostics)
    }
}

impl From<Vec<PluginProblem>> for Failure {
    fn from(problems: Vec<PluginProblem>) -> Self {
        Self::Plugins(problems)
    }
}

impl From<crate::gateway::StartError> for Failure {
    fn from(error: crate::gateway::StartError) -> Self {
        Self::Gateway(Message { text: error.to_string(), hint: error.hint().map(str::to_owned) })
    }
}

impl From<crate::capabilities::CapabilityError> for Failure {
    fn from(error: crate::capabilities::CapabilityError) -> Self {
        Self::Gateway(Message { text: error.to_string(), hint: error.hint() })
    }
}

impl From<crate::supervisor::sockets::SocketError> for Failure {
    fn from(error: crate::supervisor::sockets::SocketError) -> Self {
        Self::Gateway(Message { text: error.to_string(), hint: Some(error.hint()) })
    }
}

impl From<tidegate_runtime::StartError> for Failure {
    fn from(error: tidegate_runtime::StartError) -> Self {
        Self::gateway(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_refused_command_line_is_shown_like_any_other_error() {
        let shown = |words: &[&str]| {
            let error = crate::cli::Cli::try_parse_from(words).expect_err("refused");
            Failure::of_usage(&error).map(|failure| anstream::adapter::strip_str(&failure.render()).to_string())
        };
        assert_eq!(
            shown(&["tidegate", "chek"]).expect("an error"),
            "error: unrecognized subcommand 'chek'\n\nUsage: tidegate <COMMAND>\n\
             hint: a similar subcommand exists: 'check'\n"
        );
        assert_eq!(
            shown(&["tidegate", "report"]).expect("an error"),
            "error: the following required arguments were not provided:\n  <FILE>\n\nUsage: tidegate report <FILE>\n\
             hint: add `--help` to see what there is\n"
        );
        assert_eq!(shown(&["tidegate", "--version"]), None);
    }

    #[test]
    fn an_error_begins_with_error_and_ends_with_a_hint() {
        let failure = Failure::usage("there is no such plugin", Some("look again"));
        assert_eq!(
            anstream::adapter::strip_str(&failure.render()).to_string(),
            "error: there is no such plugin\nhint: look again\n"
        );
        assert_eq!((failure.exit_code(), Failure::gateway("broken").exit_code()), (2, 1));
    }
}
