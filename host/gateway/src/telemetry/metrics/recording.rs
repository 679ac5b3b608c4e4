//! The metrics of `--record`.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;

use super::out::Out;
use crate::recorder::{Counts, Loss};

pub(super) fn encode(counts: &Counts, out: &mut Out<'_>) -> fmt::Result {
    out.counter("recorded_exchanges", "Exchanges that have been recorded", counts.kept())?;
    out.counter("recorded_bytes", "Bytes that have been written to the recording", counts.bytes())?;
    let help = "Exchanges that are not in the recording, by reason";
    let mut family = out.family("unrecorded_exchanges", help, MetricType::Counter)?;
    for loss in Loss::ALL {
        let lost = counts.lost_to(loss);
        family.encode_family(&[("reason", loss.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&lost, None)?;
    }
    Ok(())
}
