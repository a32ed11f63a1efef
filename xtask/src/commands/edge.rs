//! The npm package: the module for JavaScript with and without sanitize, and without a compiler; the glue around it, and the
//! JavaScript of `plugins/edge/js`, into `dist/npm`.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::ErrorKind,
    os::unix,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{bundle, cargo, install, succeed, wasm};
use crate::layout::Layout;

const PACKAGE: &str = "portcullis-edge";
const TARGET: &str = "wasm32-unknown-unknown";
const BUILT: &str = "portcullis_edge.wasm";
/// What each build has besides its module.
const SHARED: [&str; 6] = ["node.js", "deno.js", "workerd.js", "edge-light.js", "default.js", "index.d.ts"];

/// The guard around a module.
const GUARD: [&str; 5] = ["portcullis.js", "messages.js", "bodies.js", "sink.js", "store.js"];

/// What stands beside the builds.
const ALONE: [&str; 11] = [
    "package.json",
    "hono.js",
    "light-hono.js",
    "hono.d.ts",
    "middleware.js",
    "middleware.d.ts",
    "durable-object.js",
    "durable-object.d.ts",
    "compile.js",
    "compiler.js",
    "image.js",
];

/// What stands beside the build without a compiler.
const COMPILED: [&str; 3] = ["compiled.js", "compiled.d.ts", "index.d.ts"];
/// What a build of the module makes, below `wasm/`.
const MADE: [&str; 2] = ["portcullis.js", "portcullis_bg.wasm"];
/// Names the build that compiles.
const STAMP: &str = "compiled/build.js";
/// What a configuration is, from `docs/`.
const SCHEMA: &str = "configuration.schema.json";
/// The most that it may have.
const COMPILED_MOST: u64 = 140_000;

/// A hash is taken of a token and of a session, which are short: its rounds need not be written out.
const SMALL_HASH: &str = "sha2_backend_soft=\"compact\"";

/// One build of the module.
struct Build {
    folder: &'static str,
    features: &'static [&'static str],
    /// The most that the module may have, compressed by gzip.
    most: u64,
}

const BUILDS: [Build; 2] = [
    Build { folder: "full", features: &[], most: 400_000 },
    Build {
        folder: "light",
        features: &["--no-default-features", "--features", "headers,access,rate-limit,audit"],
        most: 250_000,
    },
];

/// Builds what has changed of the package, and prints what its modules weigh.
///
/// # Errors
/// When something does not build, or a module is too large.
pub fn build(layout: &Layout) -> Result<()> {
    install::rust_target(layout, TARGET)?;
    install::optimizer(layout)?;
    let (source, package) = (layout.root().join("plugins/edge/js"), layout.npm_package());
    bundle::keep(&package, &written())?;
    for file in ALONE {
        copy(&source.join(file), &package.join(file))?;
    }
    copy(&layout.root().join("docs").join(SCHEMA), &package.join(SCHEMA))?;
    let sources = wasm::Sources::read(layout)?;
    for build in &BUILDS {
        let folder = package.join(build.folder);
        for file in GUARD.iter().chain(&SHARED) {
            copy(&source.join(file), &folder.join(file))?;
        }
        let (folder, module) = (folder.join("wasm"), folder.join("wasm/portcullis_bg.wasm"));
        sources.unless_built(layout, build.features, &module, || make(layout, build, &folder, &module))?;
        weigh(build.folder, build.most, &module)?;
    }
    without_compiler(layout, &sources, &source, &package)
}

/// All files of the package: what else lies in its folder, an older build has left there.
fn written() -> BTreeSet<PathBuf> {
    let whole = BUILDS.iter().map(|build| (build.folder, SHARED.as_slice()));
    let within = whole.chain([("compiled", COMPILED.as_slice())]).flat_map(|(folder, own)| {
        let made = MADE.iter().map(|file| Path::new("wasm").join(file));
        let files = GUARD.iter().chain(own).map(PathBuf::from).chain(made);
        files.map(move |file| Path::new(folder).join(file))
    });
    let alone = ALONE.iter().chain([&SCHEMA, &STAMP]).map(PathBuf::from);
    alone.chain(within).collect()
}

/// The light build for configurations that were compiled beforehand.
fn without_compiler(layout: &Layout, sources: &wasm::Sources, source: &Path, package: &Path) -> Result<()> {
    let (light, folder) = (package.join("light/wasm"), package.join("compiled"));
    for file in GUARD.iter().chain(&COMPILED) {
        copy(&source.join(file), &folder.join(file))?;
    }
    copy(&light.join("portcullis.js"), &folder.join("wasm/portcullis.js"))?;
    let module = folder.join("wasm/portcullis_bg.wasm");
    sources.unless_built(layout, &["trim"], &module, || {
        println!("taking the compiler out of the edge module");
        let mut link = cargo(layout);
        link.args(["run", "--quiet", "--release", "--bin", "portcullis-link", "--", "trim"]);
        link.arg(light.join("portcullis_bg.wasm")).arg(&module);
        succeed(&mut link, "the compiler could not be taken out: see above")?;
        wasm::optimize(layout, &module, &module)
    })?;
    // What one build has compiled, another does not load.
    let mut hasher = DefaultHasher::new();
    fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?.hash(&mut hasher);
    let build = format!("export const BUILD = \"{:016x}\";\n", hasher.finish());
    wasm::write(&package.join(STAMP), build.as_bytes())?;
    weigh("compiled", COMPILED_MOST, &module)
}

/// A folder from which scripts of `plugins/edge/tests` find the package and the runtimes by name, as an application's would.
///
/// # Errors
/// When a file cannot be written.
pub fn stage(layout: &Layout) -> Result<PathBuf> {
    let (folder, scope) = (layout.target().join("edge-tests"), layout.node_packages().join("@portcullis"));
    for made in [&folder, &scope] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    // Several may do this at the same time, and to the same end.
    for (to, link) in
        [(layout.npm_package(), scope.join("edge")), (layout.node_packages(), folder.join("node_modules"))]
    {
        match unix::fs::symlink(to, &link) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", link.display()));
            }
            _ => {}
        }
    }
    for script in bundle::files(&layout.root().join("plugins/edge/tests"))? {
        let name = script.file_name().context("a script without a name")?;
        let draft = folder.join(format!("{:?}-{}", std::thread::current().id(), name.display()));
        copy(&script, &draft)?;
        fs::rename(&draft, folder.join(name)).with_context(|| format!("cannot write {}", name.display()))?;
    }
    Ok(folder)
}

/// Measures what a request costs workerd, and prints it.
///
/// # Errors
/// When the package is not built, or workerd does not run.
pub fn bench(layout: &Layout) -> Result<()> {
    build(layout)?;
    install::edge_runtimes(layout)?;
    let mut command = Command::new(install::node(layout)?);
    command.arg(stage(layout)?.join("bench.mjs")).arg(layout.root().join("plugins/headers/src/leaks.rs"));
    succeed(&mut command, "the edge could not be measured: see above")
}

/// Runs the example worker in workerd until Ctrl-C.
///
/// # Errors
/// When the package is not built, or workerd does not run.
pub fn example(layout: &Layout) -> Result<()> {
    build(layout)?;
    install::edge_runtimes(layout)?;
    let mut command = Command::new(install::node(layout)?);
    command.arg(stage(layout)?.join("example.mjs")).arg(layout.root().join("plugins/edge/example/worker.js"));
    succeed(&mut command, "the example does not run: see above")
}

fn make(layout: &Layout, build: &Build, folder: &Path, module: &Path) -> Result<()> {
    println!("building the edge module `{}`", build.folder);
    let mut command = cargo(layout);
    command.args(["build", "--quiet", "--profile", "edge", "--target", TARGET, "--package", PACKAGE]);
    wasm::flags(layout, &mut command, &["--cfg", SMALL_HASH])?;
    succeed(command.args(build.features), "the edge module is not built: see above")?;
    let built = layout.target().join(TARGET).join("edge").join(BUILT);
    let mut glue = cargo(layout);
    glue.args(["run", "--quiet", "--release", "--bin", "portcullis-link", "--", "glue"]);
    succeed(glue.arg(&built).arg(folder), "the glue is not made: see above")?;
    wasm::optimize(layout, module, module)
}

/// The package as it is published.
///
/// # Errors
/// When it is not built.
pub(super) fn packed(layout: &Layout) -> Result<Vec<u8>> {
    bundle::npm_archive(&layout.npm_package())
}

fn weigh(build: &str, most: u64, module: &Path) -> Result<()> {
    let bytes = fs::metadata(module).with_context(|| format!("cannot read {}", module.display()))?.len();
    let compressed = compressed(module)?;
    println!("{bytes:>9} bytes, {compressed} compressed  the edge module `{build}`");
    if compressed > most {
        bail!("{} has {compressed} bytes compressed, may have {most}", module.display());
    }
    Ok(())
}

/// The size after gzip, as servers send it and as edges count it.
fn compressed(file: &Path) -> Result<u64> {
    let output = Command::new("gzip").args([OsStr::new("-9nc"), file.as_os_str()]).output();
    let output = output.context("gzip does not run: install it (Debian: sudo apt-get install gzip)")?;
    Ok(output.stdout.len().try_into()?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_package_promises_is_written() {
        let manifest =
            fs::read(Layout::of_this_checkout().root().join("plugins/edge/js/package.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let (mut waiting, mut named) = (vec![&manifest["exports"], &manifest["bin"]], 0);
        while let Some(value) = waiting.pop() {
            waiting.extend(value.as_object().into_iter().flat_map(|map| map.values()));
            if let Some(file) = value.as_str() {
                assert!(written().contains(Path::new(file.trim_start_matches("./"))), "{file}");
                named += 1;
            }
        }
        assert!(named > 20, "{named}");
    }
}
