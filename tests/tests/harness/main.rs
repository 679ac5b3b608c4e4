//! The harness for plugins is what it claims: virtual time, the same course every time, and no planted fault goes unseen.

mod conformance;
mod time;
