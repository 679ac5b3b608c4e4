//! Other uses of the program than to serve: run to the end, and look at what it said.

use std::process::{Command, Stdio};

use super::{HANGS, binary};

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// As text.
    pub stdout: String,
    /// As text.
    pub stderr: String,
}

/// Run `tidegate` with these arguments, not on a terminal.
///
/// # Panics
/// If it does not end.
pub async fn tidegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).env_remove("COLUMNS").env_remove("RUST_BACKTRACE");
    let running = tokio::task::spawn_blocking(move || command.output());
    let Ok(Ok(Ok(output))) = tokio::time::timeout(HANGS, running).await else {
        panic!("`tidegate {}` does not end", arguments.join(" "))
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
