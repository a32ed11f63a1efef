//! Builds the modules into `dist/`: one with the whole chain, one per policy from the same code, and for tests one that
//! can be made to panic. From the whole one comes another for hosts that forbid what is optional.
//!
//! They differ in cargo features alone. Cargo keeps one result per crate and profile; so building them one after the
//! other makes it link each of them every time. What they are built from is remembered here instead, and what has not
//! changed is not built again.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{cargo, install::WASM_TARGET};
use crate::layout::Layout;

/// The most that the module with the whole chain may have. Proxies fetch it over the network and compile it at start;
/// the largest part is what sanitize knows of other languages.
const MOST_BYTES: u64 = 1_200_000;
const PACKAGE: &str = "portcullis-proxy-wasm";
const BUILT: &str = "portcullis_proxy_wasm.wasm";

/// One module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Module {
    file: &'static str,
    package: &'static str,
    /// What cargo calls the result.
    built: &'static str,
    /// Arguments for cargo.
    features: &'static [&'static str],
}

const WHOLE: Module = Module { file: "portcullis.wasm", package: PACKAGE, built: BUILT, features: &[] };
const SINGLE: [Module; 5] = [
    Module {
        file: "portcullis-headers.wasm",
        package: PACKAGE,
        built: BUILT,
        features: &["--no-default-features", "--features", "headers"],
    },
    Module {
        file: "portcullis-access.wasm",
        package: PACKAGE,
        built: BUILT,
        features: &["--no-default-features", "--features", "access"],
    },
    Module {
        file: "portcullis-sanitize.wasm",
        package: PACKAGE,
        built: BUILT,
        features: &["--no-default-features", "--features", "sanitize"],
    },
    Module {
        file: "portcullis-rate-limit.wasm",
        package: PACKAGE,
        built: BUILT,
        features: &["--no-default-features", "--features", "rate-limit"],
    },
    Module {
        file: "portcullis-audit.wasm",
        package: PACKAGE,
        built: BUILT,
        features: &["--no-default-features", "--features", "audit"],
    },
];
/// The whole chain and the policy `seal`, which is not in the other: a curve and a cipher would make it too large.
const SEALS: Module = Module {
    file: "portcullis-seal.wasm",
    package: PACKAGE,
    built: BUILT,
    features: &["--features", "seal"],
};
/// The whole chain for hosts that refuse modules which ask for timers, metrics, shared data or calls: those calls answer
/// "unimplemented" within the module, as such a host's would.
const RESTRICTED: &str = "portcullis-restricted.wasm";
const PANICS: Module = Module {
    file: "test/portcullis-panic.wasm",
    package: PACKAGE,
    built: BUILT,
    features: &["--features", "panic-on-request"],
};
/// Not a module of a proxy: what checks the cryptographic primitives, for 32 bits.
const PRIMITIVES: Module = Module {
    file: "test/portcullis-primitives.wasm",
    package: "portcullis-primitives",
    built: "portcullis-primitives.wasm",
    features: &[],
};

/// Which modules to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The whole chain: what `make run` needs.
    Whole,
    /// That, one that seals too, and one per policy: what is released.
    Released,
    /// Those, and the one that panics.
    ForTests,
}

impl Which {
    /// From the flags of the command line.
    pub const fn new(whole_only: bool, for_tests: bool) -> Self {
        match (whole_only, for_tests) {
            (true, _) => Self::Whole,
            (false, false) => Self::Released,
            (false, true) => Self::ForTests,
        }
    }

    fn modules(self) -> Vec<Module> {
        let mut modules = vec![WHOLE];
        if self != Self::Whole {
            modules.extend(SINGLE);
            modules.push(SEALS);
        }
        if self == Self::ForTests {
            modules.extend([PANICS, PRIMITIVES]);
        }
        modules
    }
}

/// Builds what has changed, and prints the sizes.
///
/// # Errors
/// When something does not build.
pub fn build(layout: &Layout, which: Which) -> Result<()> {
    super::install::wasm_target(layout)?;
    let sources = Sources::read(layout)?;
    build_modules(layout, which, &sources)?;
    if which != Which::Whole {
        let target = layout.dist().join(RESTRICTED);
        sources.unless_built(layout, &[], &target, || restrict(layout, &target))?;
        println!("{:>9} bytes  {}", size(&target)?, shown(layout, &target));
    }
    Ok(())
}

/// The files that are released, by name.
pub(super) fn released() -> Vec<&'static str> {
    let modules = Which::Released.modules().into_iter().map(|module| module.file);
    let mut files: Vec<_> = modules.chain([RESTRICTED]).collect();
    files.sort_unstable();
    files
}

fn build_modules(layout: &Layout, which: Which, sources: &Sources) -> Result<()> {
    for module in which.modules() {
        let target = layout.dist().join(module.file);
        sources.unless_built(layout, module.features, &target, || build_one(layout, &module, &target))?;
        println!("{:>9} bytes  {}", size(&target)?, shown(layout, &target));
    }
    Ok(())
}

/// Checks the size of the module with the whole chain. A module that is too large works all the same: nobody is kept from
/// running or testing it, only from releasing it.
///
/// # Errors
/// When it is too large, or not built.
pub fn check_size(layout: &Layout) -> Result<()> {
    let bytes = size(&layout.module()?)?;
    if bytes > MOST_BYTES {
        bail!(
            "dist/{} has {bytes} bytes, may have {MOST_BYTES}: find what grew and make it smaller",
            WHOLE.file
        );
    }
    Ok(())
}

fn build_one(layout: &Layout, module: &Module, target: &Path) -> Result<()> {
    println!("building {}", shown(layout, target));
    let mut command = cargo(layout);
    command.args([
        "build",
        "--quiet",
        "--profile",
        "wasm",
        "--target",
        WASM_TARGET,
        "--package",
        module.package,
    ]);
    command.args(module.features);
    flags(layout, &mut command, &[])?;
    super::succeed(&mut command, &format!("{} is not built: see above", module.file))?;
    let built = layout.target().join(WASM_TARGET).join("wasm").join(module.built);
    // What is tested alone need not be small.
    let built = if module.file.starts_with("test/") {
        built
    } else {
        let (called, smaller) = (built.with_extension("called.wasm"), built.with_extension("smaller.wasm"));
        keep_called(layout, &built, &called)?;
        optimize(layout, &called, &smaller)?;
        smaller
    };
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    // What has not changed keeps its time, for those who watch it.
    if fs::read(target).ok().as_ref() == Some(&bytes) { Ok(()) } else { write(target, &bytes) }
}

/// Makes the compiler name sources by where they lie in this checkout, in cargo's home and in the toolchain: the texts of panics
/// would else tell the folders of the machine, and the same sources would give other bytes elsewhere. `more` are further
/// flags for it.
pub(super) fn flags(layout: &Layout, command: &mut Command, more: &[&str]) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let own = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<String> = own.split_whitespace().map(str::to_owned).collect();
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    // The standard library's sources, where rustup has installed them.
    let sysroot = rustc(layout.root(), &["--print", "sysroot"])?;
    flags.push(format!("--remap-path-prefix={}=/rust", String::from_utf8_lossy(&sysroot).trim_end()));
    flags.push(format!("--remap-path-prefix={}=/portcullis", layout.root().display()));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    // Parts are separated by a character that no path holds.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(())
}

/// What the compiler of a checkout says.
fn rustc(root: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output =
        Command::new("rustc").args(arguments).current_dir(root).output().context("rustc does not run")?;
    ensure!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// The whole module, with what is optional answered within.
fn restrict(layout: &Layout, target: &Path) -> Result<()> {
    println!("building {}", shown(layout, target));
    let whole = layout.module()?;
    let mut link = cargo(layout);
    link.args(["run", "--quiet", "--release", "--bin", "portcullis-link", "--", "restrict"]);
    super::succeed(link.arg(whole).arg(target), &format!("{RESTRICTED} is not made: see above"))?;
    optimize(layout, target, target)
}

/// What a host calls of an HTTP filter, and what it reads. The SDK exports more: callbacks of other kinds of filters, and of
/// streams and queues that no policy opens.
const CALLED: [&str; 18] = [
    "memory",
    "PORTCULLIS_HOST_KEEPS",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_memory_allocate",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

/// Takes out of a module what nobody calls.
fn keep_called(layout: &Layout, built: &Path, called: &Path) -> Result<()> {
    let exports = CALLED.iter().map(|name| json!({"name": name, "export": name}));
    let root = json!({"name": "host", "root": true, "reaches": CALLED});
    let graph = called.with_extension("json");
    write(&graph, serde_json::Value::Array(exports.chain([root]).collect()).to_string().as_bytes())?;
    let tool = super::install::optimizer(layout)?.with_file_name("wasm-metadce");
    let mut command = Command::new(super::install::node(layout)?);
    // It lists what it takes out.
    command.arg(tool).args(FEATURES).arg("--quiet").stdout(Stdio::null());
    command.arg("--graph-file").arg(graph).arg(built).arg("-o").arg(called);
    super::succeed(&mut command, "what nobody calls could not be taken out: see above")
}

/// What Rust's target uses of WebAssembly.
const FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Makes a module smaller, by Binaryen. Debian's is too old to be trusted with what Rust makes.
pub(super) fn optimize(layout: &Layout, built: &Path, smaller: &Path) -> Result<()> {
    let optimizer = super::install::optimizer(layout)?;
    let mut command = Command::new(super::install::node(layout)?);
    command.arg(optimizer).args(["-Oz", "--strip-debug", "--strip-producers"]).args(FEATURES);
    command.arg(built).arg("-o").arg(smaller);
    super::succeed(&mut command, "the module could not be made smaller: see above")
}

/// Writes a file, all or nothing: a proxy may be reading it.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let said = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(said)?;
    }
    let draft = path.with_extension("new");
    fs::write(&draft, bytes).with_context(said)?;
    fs::rename(&draft, path).with_context(said)
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

fn shown(layout: &Layout, path: &Path) -> String {
    path.strip_prefix(layout.root()).unwrap_or(path).display().to_string()
}

/// Everything that modules are built from, as one number.
pub(super) struct Sources(u64);

impl Sources {
    pub(super) fn read(layout: &Layout) -> Result<Self> {
        let root = layout.root();
        let mut files: Vec<PathBuf> =
            ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"]
                .map(|file| root.join(file))
                .into();
        collect(&root.join("plugins"), &mut files)?;
        collect(&root.join("host-tests/primitives"), &mut files)?;
        files.sort();
        let mut hasher = DefaultHasher::new();
        for file in files {
            // Some of the first need not exist.
            (&file, fs::read(&file).ok()).hash(&mut hasher);
        }
        rustc(root, &["-vV", "--print", "sysroot"])?.hash(&mut hasher);
        std::env::var_os("RUSTFLAGS").hash(&mut hasher);
        Ok(Self(hasher.finish()))
    }

    /// Builds a file of `dist/`, unless what it is made of and the file itself are what they were.
    pub(super) fn unless_built(
        &self,
        layout: &Layout,
        features: &[&str],
        target: &Path,
        build: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let name = target.strip_prefix(layout.dist()).unwrap_or(target).to_string_lossy().replace('/', "-");
        let mark = layout.target().join("dist-marks").join(name);
        if fs::read_to_string(&mark).ok() == Some(self.with(features, target)) && target.is_file() {
            return Ok(());
        }
        build()?;
        // The mark holds what was built, the file's own content included: a file that somebody changed is built anew.
        write(&mark, self.with(features, target).as_bytes())
    }

    fn with(&self, features: &[&str], target: &Path) -> String {
        let mut hasher = DefaultHasher::new();
        (self.0, features, fs::read(target).ok()).hash(&mut hasher);
        format!("{:016x}\n", hasher.finish())
    }
}

/// The sources and manifests below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_source_features_or_result_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("plugins/x/src/lib.rs");
        write(&folder.path().join("host-tests/primitives/src/lib.rs"), b"").unwrap();
        write(&source, b"one").unwrap();
        let layout = Layout::at(folder.path());
        let target = folder.path().join("x.wasm");
        let mark = || Sources::read(&layout).unwrap().with(WHOLE.features, &target);
        let first = mark();
        assert_eq!(first, mark());
        assert_ne!(first, Sources::read(&layout).unwrap().with(PANICS.features, &target));
        write(&source, b"two").unwrap();
        let second = mark();
        assert_ne!(first, second);
        write(&target, b"built").unwrap();
        assert_ne!(second, mark());
    }

    #[test]
    fn what_is_released_never_panics_on_request() {
        assert!(!Which::Released.modules().contains(&PANICS) && !Which::Whole.modules().contains(&PANICS));
        assert_eq!(Which::ForTests.modules().len(), 4 + SINGLE.len());
    }
}
