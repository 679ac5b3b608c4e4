//! What is told of key-value buckets.

use std::fmt;

use prometheus_client::encoding::NoLabelSet;
use prometheus_client::metrics::MetricType;
use tidegate_keyvalue::{Operation, Outcome};

use super::out::{Out, as_gauge};
use crate::capabilities::buckets::Buckets;

pub(super) fn encode(buckets: &Buckets, out: &mut Out<'_>) -> fmt::Result {
    let counts = buckets.counts();
    if counts.is_empty() {
        return Ok(());
    }
    let mut family = out.family("kv_operations", "Operations on key-value buckets by outcome", MetricType::Counter)?;
    for ((plugin, bucket), counts) in &counts {
        for operation in Operation::ALL {
            for outcome in Outcome::ALL {
                let count = counts.of(operation, outcome);
                // Each appears with its first occurrence.
                if count > 0 {
                    let labels = [
                        ("plugin", &**plugin),
                        ("bucket", &**bucket),
                        ("operation", operation.as_str()),
                        ("outcome", outcome.as_str()),
                    ];
                    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
    }
    let usage = buckets.usage();
    let mut family = out.family("kv_entries", "Entries of key-value buckets in memory and files", MetricType::Gauge)?;
    for (bucket, plugin, usage) in &usage {
        let labels = [("bucket", &**bucket), ("plugin", &**plugin)];
        family.encode_family(&labels)?.encode_gauge(&as_gauge(usage.entries))?;
    }
    let mut family = out.family("kv_bytes", "Bytes of their keys and values", MetricType::Gauge)?;
    for (bucket, plugin, usage) in &usage {
        let labels = [("bucket", &**bucket), ("plugin", &**plugin)];
        family.encode_family(&labels)?.encode_gauge(&as_gauge(usage.bytes))?;
    }
    Ok(())
}
