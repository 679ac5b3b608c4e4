//! The `tidegate` process under a supervisor: what it says, and what it does with sockets that were there before it. The
//! supervisor is the test: it has the other end of the notification socket, and the listening sockets.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod notify;
mod sockets;
