//! clang and a C library for WebAssembly from Debian, the linker that comes with Rust's toolchain, and the generator of
//! bindings in example-plugins/c/bindgen.

use super::{Tools, WORLD, hinted, place, wit};
use crate::step;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_toolchain::debian;
use tidegate_toolchain::rust::Linkers;

/// The compiler, its linker and builtins for WebAssembly, and the C library.
const PACKAGES: [&str; 4] = ["clang-22", "lld-22", "libclang-rt-22-dev-wasm32", "wasi-libc"];

/// A file of each of them.
const FILES: [&str; 4] = [
    "/usr/bin/clang-22",
    "/usr/bin/wasm-ld-22",
    "/usr/lib/llvm-22/lib/clang/22/lib/wasi/libclang_rt.builtins-wasm32.a",
    "/usr/lib/wasm32-wasi/libc.a",
];

pub(super) struct C {
    bindings: PathBuf,
    linker: PathBuf,
}

/// Installs Debian's packages if they are not there and this can be done without asking anybody, and generates the bindings.
pub(super) fn prepare() -> Result<C> {
    if !are_there() {
        install()?;
    }
    let linker = Linkers::find(step::root())?.component();
    if !linker.is_file() {
        bail!("this Rust toolchain comes without wasm-component-ld\nhint: rustup's has it");
    }
    let bindings = place("c/bindings")?;
    let mut bindgen = step::cargo();
    bindgen.current_dir(super::Language::C.folder().join("bindgen"));
    bindgen.args(["run", "--quiet", "--locked", "--target-dir"]).arg(place("c/bindgen")?);
    bindgen.arg("--").arg(wit()).arg(WORLD).arg(&bindings);
    hinted(step::run("bindings for C", &mut bindgen), "it takes a registry of Rust crates that can be reached")?;
    Ok(C { bindings, linker })
}

fn are_there() -> bool {
    FILES.into_iter().all(|file| Path::new(file).is_file())
}

fn install() -> Result<()> {
    let packages = PACKAGES.join(" ");
    let Some(root) = debian::Root::found() else {
        bail!("installing {packages} takes root\nhint: apt-get install {packages}");
    };
    eprintln!("==> apt-get install {packages}");
    hinted(debian::install(root, &PACKAGES), "it takes a Debian that has these packages")?;
    if !are_there() {
        bail!("{packages} are installed, but not all of {} are there", FILES.join(" "));
    }
    Ok(())
}

impl Tools for C {
    fn commands(&self, source: &Path, output: &Path) -> Result<Vec<Command>> {
        let name = WORLD.replace('-', "_");
        let mut clang = Command::new("clang-22");
        // The triple by which Debian's C library is found; clang calls it by a newer name.
        clang.args(["--target=wasm32-wasi", "-Wno-deprecated", "--sysroot=/usr", "-mexec-model=reactor"]);
        clang.args(["-Os", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wl,--strip-debug"]);
        // It calls wasm-ld, and wraps what comes out in a component.
        clang.arg(format!("-fuse-ld={}", self.linker.display())).arg("-I").arg(&self.bindings).arg(source);
        clang.arg(self.bindings.join(format!("{name}.c"))).arg(self.bindings.join(format!("{name}_component_type.o")));
        clang.arg("-o").arg(output);
        Ok(vec![clang])
    }
}
