//! The `tidegate` process from outside: real plugins, real sockets, real signals, the exit code and the report.

#![expect(clippy::indexing_slicing, clippy::print_stdout, reason = "in a test a panic is a failure; seeds are printed")]

mod background;
mod bad_input;
mod bodies;
mod chain;
mod examples;
mod exits;
mod hostile;
mod interleavings;
mod keyvalue;
mod many_reloads;
mod nothing_lost;
mod outbound;
mod outbox;
mod record;
mod reload;
mod replay;
mod secrets;
mod signals;
mod sinks;
mod switches;
mod telling;
