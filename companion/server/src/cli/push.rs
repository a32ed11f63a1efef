//! `portcullis push`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const PUSH_HELP: &str = "\
`make bundle` writes the layout. The manifest is sent as it lies there: the digest that is printed is the one in
dist/manifests, and the same layout has the same digest in every registry.
REGISTRY_USER and REGISTRY_PASSWORD log in; without them the registry is asked anonymously.

Examples:
  portcullis push registry.example.com/portcullis/portcullis:0.1.0
  portcullis push registry.example.com/portcullis/portcullis:0.1.0-artifact --image artifact
  portcullis push --plain-http localhost:5000/portcullis:dev

Exit code: 0 the registry has it, 1 it does not.";

/// What `push` takes.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Where to: REGISTRY/NAME:TAG
    #[arg(value_name = "REGISTRY/NAME:TAG")]
    pub target: String,
    /// The image layout
    #[arg(long, default_value = "dist/oci", value_name = "FOLDER")]
    pub from: PathBuf,
    /// Which image of the layout
    #[arg(long, value_enum, default_value_t)]
    pub image: Shape,
    /// Speak HTTP instead of HTTPS, to a registry on this machine
    #[arg(long)]
    pub plain_http: bool,
    /// Trust the certificate authority in this file (PEM) besides those of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Who logs in
    #[arg(long, env = "REGISTRY_USER", value_name = "NAME", requires = "password")]
    pub user: Option<String>,
    /// Never a flag: every process of the machine can read a command line.
    #[arg(long, env = "REGISTRY_PASSWORD", hide = true, hide_env_values = true)]
    pub password: Option<String>,
}

/// The shapes that `make bundle` writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A container image with `plugin.wasm` in its layer: what every mesh and registry takes
    #[default]
    Image,
    /// An artifact with the module as a layer of its own media type
    Artifact,
}

impl Shape {
    /// Its name in the layout.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Artifact => "artifact",
        }
    }
}
