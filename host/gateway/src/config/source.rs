//! The text of a config file, and whether the files that it names are looked for.

use std::io::Read as _;
use std::path::Path;

use super::diagnostic::Diagnostic;
use super::units::HumanSize;

/// The longest config file that is read, bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// Whether plugin files are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// They must be there.
    Checked,
    /// The text alone is looked at.
    Ignored,
    /// The text alone is looked at, for the sake of its plugins: nothing has to be served.
    PluginsAlone,
}

/// The text of the file, or why there is none.
pub(super) fn read(path: &Path) -> Result<String, Box<Diagnostic>> {
    let unreadable = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("name the file with `--config FILE`"),
            std::io::ErrorKind::IsADirectory => Some("name the file in it, for example with `--config tidegate.toml`"),
            _ => None,
        };
        let problem = Diagnostic::of_file(format!("cannot read the config file: {}", reason(&error)));
        Box::new(match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        })
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        let limit = HumanSize(LONGEST_FILE);
        let problem = Diagnostic::of_file(format!("the config file is longer than {limit}"));
        return Err(Box::new(problem.hint("is it the right file?")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Box::new(Diagnostic::of_file(format!(
            "the config file is not UTF-8 text: the first bad byte is in line {line}"
        )))
    })
}

/// What the system says, without the number of the error.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
