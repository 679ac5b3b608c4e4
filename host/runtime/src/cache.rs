//! Compiled components, kept between runs.
//!
//! An artifact is native code, so what is loaded must be what this installation wrote: the folder belongs to the user
//! and nobody else may write to it, and every file begins with the digest of the rest. The name has the component's
//! digest and a hash of everything that makes artifacts of one engine unfit for another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of artifacts for one engine.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    engine: u64,
}

/// Length of the checksum at the start of a file.
const CHECKSUM: usize = 32;

impl Cache {
    /// Use a folder, made if it is missing.
    pub(crate) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = std::fs::metadata(folder)?;
        if metadata.permissions().mode() & 0o022 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it must belong to the user that runs the gateway and be writable by nobody else",
            ));
        }
        // Not a cryptographic hash: it tells engines apart, the checksum guards the contents.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { folder: folder.to_owned(), engine: hasher.finish() })
    }

    fn file(&self, digest: &str) -> PathBuf {
        let digest = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.folder.join(format!("{digest}-{:016x}.cwasm", self.engine))
    }

    /// The artifact of a component, if there is a sound one.
    pub(crate) fn load(&self, digest: &str, engine: &Engine) -> Option<Component> {
        let file = self.file(digest);
        let bytes = std::fs::read(&file).ok()?;
        let (checksum, artifact) = bytes.split_at_checked(CHECKSUM)?;
        if Sha256::digest(artifact).as_slice() != checksum {
            tracing::warn!(file = %file.display(), "a cached component is damaged; it is compiled anew");
            return None;
        }
        // SAFETY: `artifact` is byte for byte what `store` below got from `Component::serialize` of an engine with the
        // same compatibility hash: its checksum is right, and nobody but this user can write to the folder.
        #[expect(unsafe_code, reason = "loading native code; see the comment above and the module's")]
        let component = unsafe { Component::deserialize(engine, artifact) };
        component
            .inspect_err(|error| tracing::warn!(%error, file = %file.display(), "a cached component does not load"))
            .ok()
    }

    /// Keep the artifact of a component. A cache that cannot be written costs time at the next start, no more.
    pub(crate) fn store(&self, digest: &str, component: &Component) {
        let file = self.file(digest);
        if let Err(error) = self.write(&file, component) {
            tracing::warn!(%error, file = %file.display(), "a compiled component could not be cached");
        }
    }

    fn write(&self, file: &Path, component: &Component) -> io::Result<()> {
        let artifact = component.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        let mut bytes = Sha256::digest(&artifact).to_vec();
        bytes.extend_from_slice(&artifact);
        // Readers see the whole file or none, also when two gateways start at once.
        let partial = file.with_extension(format!("{}.partial", std::process::id()));
        std::fs::write(&partial, bytes)?;
        std::fs::rename(&partial, file)
    }
}
