//! A plugin that is served while it is written.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::project::Project;

/// Longer than a build of everything.
const HANGS: Duration = Duration::from_secs(600);

/// `tidegate plugin dev`, and what it says, on stdout and stderr, line by line.
struct Dev {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Dev {
    fn start(project: &Project) -> Self {
        let mut command = project.tidegate();
        command.args(["plugin", "dev"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be run");
        let (sender, lines) = channel();
        let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] =
            [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|out| Box::new(out) as _)];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            // Ends with the process.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines, heard: Vec::new() }
    }

    /// Wait for a line with this text.
    fn hear(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(HANGS) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("never said `{text}`:\n{}", self.heard.join("\n")),
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has ended by itself, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The response to a request, whole.
fn get(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(HANGS)).expect("it can be set");
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers");
    response
}

#[test]
fn changes_are_served_and_mistakes_are_shown_while_the_version_before_serves() {
    let Some(project) = Project::new("served-visits") else { return };
    let mut dev = Dev::start(&project);
    let ready = dev.hear("tidegate is ready: listening on ");
    let address = ready.split([' ', ',']).find_map(|word| word.parse().ok()).expect("it says where");
    dev.hear("watching for changes");
    let first = get(address);
    assert!(first.contains("x-visit: 1\r\n") && first.contains("GET /hello"), "{first}");

    project.edit(|source| source.replace("self.total.to_string()", "format!(\"again-{}\", self.total)"));
    dev.hear("reloaded: generation 2 serves");
    assert!(get(address).contains("x-visit: again-1\r\n"));
    dev.hear("watching for changes");

    project.edit(|source| source + "\nfn {\n");
    dev.hear("src/lib.rs");
    dev.hear("not built; the version before goes on serving");
    assert!(get(address).contains("x-visit: again-"));
    dev.hear("watching for changes");

    // What is wrong with the file beside it is shown as well, and mended.
    project.edit(|source| source.replace("\nfn {\n", "").replace("again-", "mended-"));
    dev.hear("reloaded: generation 3 serves");
    assert!(get(address).contains("x-visit: mended-1\r\n"));
    dev.hear("watching for changes");

    let pid = i32::try_from(dev.child.id()).ok().and_then(Pid::from_raw).expect("it runs");
    kill_process(pid, Signal::INT).expect("it can be signalled");
    dev.hear("served-visits #");
    dev.hear("completed");
    let status = dev.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(TcpStream::connect(address).is_err(), "the gateway has ended with it");
}
