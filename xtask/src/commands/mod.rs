//! The subcommands, as the Makefile calls them.

pub mod bench;
pub mod bundle;
pub mod debian;
pub mod docs;
pub mod edge;
pub mod fuzz;
pub mod install;
pub mod stack;
pub mod test;
pub mod tidy;
pub mod vendor;
pub mod wasm;

use std::{
    path::PathBuf,
    process::{Command as Program, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::{
    layout::Layout,
    stack::{HostPort, ModuleConfig, Options, Ports, Upstream},
};

const VARIABLES: &str = "\
Each option can also be given as the variable in its help, and so through make:
  make run UPSTREAM=localhost:3000 CONFIG=my.json ENVOY_PORT=8080
The companion also reads DATABASE_URL, REDIS_URL and its other variables from the environment.
ENVOY=/path/to/envoy uses that Envoy instead of the one that `make tools` installs.";

/// What make cannot say well. Run it through `make`, which builds what each command needs.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo run -p xtask --", arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start companion, upstream and Envoy in the foreground, until Ctrl-C
    #[command(after_help = VARIABLES)]
    Run(StackArgs),
    /// The same in the background; returns when all of it answers
    #[command(after_help = VARIABLES)]
    Up(StackArgs),
    /// Stop what `up` started
    #[command(after_help = VARIABLES)]
    Down(StackArgs),
    /// Forget all state of `run` and `up`: database, secrets, logs
    #[command(after_help = VARIABLES)]
    CleanRun(StackArgs),
    /// Print a bearer token for the companion's API, and nothing else
    Token(TokenArgs),
    /// Check a module configuration: every error with its path and remedy
    #[command(after_help = VARIABLES)]
    Check(StackArgs),
    /// Install what is missing: the wasm target of Rust, and Envoy into .tools/
    Install(InstallArgs),
    /// Build the modules into dist/
    Wasm(WasmArgs),
    /// Build the npm package for JavaScript edges into dist/npm
    Npm,
    /// Run the example worker of plugins/edge in workerd, until Ctrl-C
    RunEdge,
    /// Measure what the npm package takes of a request in workerd
    BenchEdge,
    /// Write all that is published into dist/: modules, npm package, image layout, manifests, bill of materials, sums
    Bundle(BundleArgs),
    /// Install and build what the tests need, run all of them, and count them
    Test,
    /// Measure what Portcullis adds to a request
    Bench(BenchArgs),
    /// Look for bytes for which a property of fuzz/ does not hold
    Fuzz(FuzzArgs),
    /// Check what neither compiler nor linter does: paths in Markdown, sizes of files, make commands in the README
    Tidy,
    /// Write the configuration's reference and JSON Schema, made from the types
    Docs,
    /// Fetch the dashboard's chart library to where the companion's build takes it from
    Charts,
    /// Serve the demonstration application
    Upstream(UpstreamArgs),
}

/// What `run`, `up` and `down` take.
#[derive(Debug, Clone, Args)]
pub struct StackArgs {
    /// The application behind Envoy, host:port; left out: a small demonstration
    #[arg(long, env = "UPSTREAM", default_value = "", hide_default_value = true, value_parser = upstream)]
    upstream: Upstream,
    /// The module's configuration, JSON; left out: envoy/demonstration.json
    #[arg(long, env = "CONFIG", default_value = "", hide_default_value = true, value_parser = config)]
    config: ModuleConfig,
    /// Envoy's worker threads; 0: one per core, at most 4
    #[arg(long, env = "CONCURRENCY", default_value = "0", value_parser = or_default::<0>)]
    concurrency: u16,
    /// Envoy's public port
    #[arg(long, env = "ENVOY_PORT", default_value = "10000", value_parser = or_default::<10000>)]
    envoy_port: u16,
    /// Envoy's administration, loopback only
    #[arg(long, env = "ADMIN_PORT", default_value = "9901", value_parser = or_default::<9901>)]
    admin_port: u16,
    /// The companion's API, loopback only
    #[arg(long, env = "COMPANION_PORT", default_value = "8000", value_parser = or_default::<8000>)]
    companion_port: u16,
    /// The companion's listener for records, loopback only
    #[arg(long, env = "INGEST_PORT", default_value = "8001", value_parser = or_default::<8001>)]
    ingest_port: u16,
    /// The demonstration's port, loopback only; 0: any free one
    #[arg(long, env = "UPSTREAM_PORT", default_value = "0", value_parser = or_default::<0>)]
    upstream_port: u16,
    /// The address Envoy listens on; 0.0.0.0 opens it to the network
    #[arg(long, env = "LISTEN_ADDRESS", default_value = "127.0.0.1", value_parser = address)]
    listen_address: std::net::IpAddr,
    /// Where all state lies
    #[arg(long, env = "DATA_DIR", default_value = ".run", value_parser = data_dir)]
    data_dir: PathBuf,
}

impl StackArgs {
    /// What they mean.
    pub fn options(&self) -> Options {
        let mut options = Options::new(&self.data_dir);
        options.upstream = self.upstream.clone();
        options.config = self.config.clone();
        options.listen = self.listen_address;
        if self.concurrency > 0 {
            options.concurrency = self.concurrency.into();
        }
        options.ports = Ports {
            envoy: self.envoy_port,
            admin: self.admin_port,
            companion: self.companion_port,
            ingest: self.ingest_port,
            upstream: self.upstream_port,
        };
        options
    }
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// Open this tenant alone; left out: everything
    #[arg(long, env = "TENANT", default_value = "", hide_default_value = true)]
    tenant: String,
    #[command(flatten)]
    stack: StackArgs,
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Only the wasm target, which is all that building needs
    #[arg(long)]
    wasm_target_only: bool,
    /// Also what the tests need: databases, scanners, schemas, a browser
    #[arg(long, conflicts_with = "wasm_target_only")]
    for_tests: bool,
}

#[derive(Debug, Args)]
struct WasmArgs {
    /// Only the module with the whole chain
    #[arg(long, conflicts_with = "for_tests")]
    whole_only: bool,
    /// Also the module that can be made to panic
    #[arg(long)]
    for_tests: bool,
}

#[derive(Debug, Args)]
struct BundleArgs {
    /// The name under which the image will be pushed, without a tag
    #[arg(long, env = "IMAGE", default_value = "registry.example.com/portcullis/portcullis")]
    image: String,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Handed on to the benchmark: see `make bench ARGS=--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct FuzzArgs {
    /// How long each target runs, in seconds
    #[arg(long, default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// One target alone; left out: all, one after the other
    #[arg(long, default_value = "", hide_default_value = true)]
    target: String,
    /// Features of the targets; `planted` has a bug on purpose
    #[arg(long)]
    features: Vec<String>,
}

#[derive(Debug, Args)]
struct UpstreamArgs {
    /// The port on loopback; 0: any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

impl Cli {
    /// Does it. An error is printed in one paragraph, with its remedy.
    pub fn run(self) -> ExitCode {
        let layout = Layout::of_this_checkout();
        let done = match self.command {
            Command::Run(args) => stack::run(args.options()),
            Command::Up(args) => stack::up(args.options()),
            Command::Down(args) => stack::down(args.options()),
            Command::CleanRun(args) => stack::forget(&args.options()),
            Command::Token(args) => stack::token(args.stack.options(), &args.tenant),
            Command::Check(args) => stack::check(&args.options()),
            Command::Install(args) if args.wasm_target_only => install::wasm_target(&layout),
            Command::Install(args) if args.for_tests => install::for_tests(&layout),
            Command::Install(_) => install::all(&layout),
            Command::Npm => edge::build(&layout),
            Command::RunEdge => edge::example(&layout),
            Command::BenchEdge => edge::bench(&layout),
            Command::Bundle(args) => bundle::run(&layout, &args.image),
            Command::Wasm(args) => {
                let which = wasm::Which::new(args.whole_only, args.for_tests);
                wasm::build(&layout, which).and_then(|()| match which {
                    wasm::Which::Released => wasm::check_size(&layout),
                    wasm::Which::Whole | wasm::Which::ForTests => Ok(()),
                })
            }
            // Its last line is the count, whatever the count is.
            Command::Test => match test::all(&layout) {
                Ok(true) => Ok(()),
                Ok(false) => return ExitCode::FAILURE,
                Err(error) => Err(error),
            },
            Command::Bench(args) => bench::measure(&layout, &args.arguments),
            Command::Docs => docs::write(&layout),
            Command::Charts => vendor::charts(&layout),
            Command::Fuzz(args) => {
                let only = Some(args.target.as_str()).filter(|name| !name.is_empty());
                fuzz::run(&layout, args.seconds, only, &args.features)
            }
            Command::Tidy => tidy::report(&layout),
            Command::Upstream(args) => crate::upstream::serve(args.port),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("portcullis: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

// An empty variable counts as not set, because scripts export what they do not fill.

fn or_default<const DEFAULT: u16>(text: &str) -> Result<u16, String> {
    match text {
        "" => Ok(DEFAULT),
        text => text.parse().map_err(|_| "must be a whole number, 0 to 65535".to_owned()),
    }
}

fn upstream(text: &str) -> Result<Upstream> {
    if text.is_empty() { Ok(Upstream::Demonstration) } else { Ok(Upstream::At(text.parse::<HostPort>()?)) }
}

fn config(text: &str) -> Result<ModuleConfig> {
    Ok(if text.is_empty() { ModuleConfig::Demonstration } else { ModuleConfig::File(text.into()) })
}

fn address(text: &str) -> Result<std::net::IpAddr> {
    let text = if text.is_empty() { "127.0.0.1" } else { text };
    text.parse().context("must be an IP address, like 127.0.0.1 or 0.0.0.0")
}

fn data_dir(text: &str) -> Result<PathBuf> {
    Ok(if text.is_empty() { ".run".into() } else { text.into() })
}

/// Runs a program to its end, with its output on ours.
fn succeed(program: &mut Program, remedy: &str) -> Result<()> {
    let name = program.get_program().to_string_lossy().into_owned();
    let status = program.status().with_context(|| format!("cannot start {name}; {remedy}"))?;
    if !status.success() {
        bail!("{name} {}; {remedy}", crate::process::describe(status));
    }
    Ok(())
}

/// Cargo, working in the checkout.
fn cargo(layout: &Layout) -> Program {
    let mut cargo = Program::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(layout.root());
    cargo
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn empty_values_count_as_not_set() {
        let line =
            "xtask run --upstream= --config= --concurrency= --envoy-port= --data-dir= --listen-address=";
        let Command::Run(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!("run") };
        let (given, default) = (args.options(), Options::new(".run"));
        assert_eq!(given.ports, default.ports);
        assert_eq!((given.upstream, given.config), (default.upstream, default.config));
        assert_eq!((given.concurrency, given.data_dir), (default.concurrency, default.data_dir));
    }

    #[test]
    fn wrong_values_name_the_remedy() {
        for (option, part) in
            [("--upstream=localhost", "like localhost:3000"), ("--envoy-port=x", "0 to 65535")]
        {
            let error = Cli::try_parse_from(["xtask", "run", option]).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
