//! The harness for plugins is what it claims: virtual time, the same course every time, and no planted fault goes unseen.

#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure")]

mod conformance;
mod time;
