//! Being written.

use super::{Failure, RunArgs};

pub(super) fn run(_args: &RunArgs) -> Result<u8, Failure> {
    Err(Failure::gateway("`tidegate run` is being written"))
}
