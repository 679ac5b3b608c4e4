//! The arguments of `tidegate run` that have it record.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use http::HeaderName;

use super::Failure;
use crate::config::HumanSize;
use crate::recorder::{FolderError, MAX_BODY, MIN_LIMIT, Recorder, Settings};

/// What is to be recorded.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Keep exchanges in this folder, for `tidegate plugin replay`
    ///
    /// Bodies are in there: the folder is made for its owner alone. Values of authorization, proxy-authorization,
    /// cookie, set-cookie and x-api-key are not kept, nor are the secrets of plugins.
    #[arg(long = "record", value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Keep no values of this field either; may be given several times
    #[arg(long = "record-redact", value_name = "NAME", requires = "folder")]
    pub redact: Vec<HeaderName>,
    /// Keep no more than this of each body; at most 2MiB
    #[arg(long = "record-body", value_name = "SIZE", default_value = "64KiB", value_parser = body, requires = "folder")]
    pub body: HumanSize,
    /// Keep no more than this in the folder; the oldest exchanges go
    #[arg(long = "record-limit", value_name = "SIZE", default_value = "256MiB", value_parser = limit, requires = "folder")]
    pub limit: HumanSize,
}

fn body(text: &str) -> Result<HumanSize, String> {
    let size: HumanSize = text.parse()?;
    if size.0 > MAX_BODY { Err(format!("the most is {}", HumanSize(MAX_BODY))) } else { Ok(size) }
}

fn limit(text: &str) -> Result<HumanSize, String> {
    let size: HumanSize = text.parse()?;
    if size.0 < MIN_LIMIT { Err(format!("the least is {}", HumanSize(MIN_LIMIT))) } else { Ok(size) }
}

impl RecordArgs {
    /// Begin, if that was asked for.
    pub(super) fn start(&self) -> Result<Option<Arc<Recorder>>, Failure> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let settings =
            Settings { folder: folder.clone(), redact: self.redact.clone(), body: self.body.0, limit: self.limit.0 };
        Recorder::start(settings).map(Some).map_err(|error| match error {
            FolderError::Unusable { .. } => {
                Failure::usage(error.to_string(), Some("name a folder that can be written to"))
            }
            FolderError::InUse(_) => Failure::usage(error.to_string(), Some("give each gateway a folder of its own")),
            FolderError::Thread(_) => Failure::gateway(error.to_string()),
        })
    }
}
