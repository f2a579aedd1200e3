//! Structured logs, on stderr unless asked otherwise.

use clap::{Args, ValueEnum};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt as _};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Flags that set how much is logged and how. `RUST_LOG` wins over `-v`.
#[derive(Clone, Debug, Default, Args)]
pub struct LogArgs {
    /// Log verbosity: 0 info, 2 our own debug, 4 debug of everything, 6 and more trace
    #[arg(short = 'v', long = "v", default_value_t = 0, value_name = "LEVEL")]
    pub verbosity: u8,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t)]
    pub logging_format: LogFormat,
}

/// Where logs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Stderr,
    Stdout,
    Both,
}

impl Output {
    fn writer(self) -> BoxMakeWriter {
        match self {
            Output::Stderr => BoxMakeWriter::new(std::io::stderr),
            Output::Stdout => BoxMakeWriter::new(std::io::stdout),
            Output::Both => BoxMakeWriter::new(std::io::stderr.and(std::io::stdout)),
        }
    }
}

fn filter(verbosity: u8) -> &'static str {
    match verbosity {
        0 | 1 => "info,raft=warn,hyper=warn,h2=warn,kube=warn,kube_client=warn,hickory_server=warn",
        2 | 3 => "debug,raft=info,hyper=info,h2=info,hyper_util=info,rustls=info,tower=info,kube=info",
        4 | 5 => "debug",
        _ => "trace",
    }
}

/// Installs the subscriber; a second call in one process (tests) leaves the first in place.
pub fn init(args: &LogArgs) {
    init_to(args, "info", Output::default());
}

/// As [`init`], for a daemon that takes a level and an output as etcd does; what is verbose counts more.
pub fn init_to(args: &LogArgs, level: &str, output: Output) {
    let directives = match (args.verbosity, level) {
        (0, "debug") => filter(2),
        (0, "warn") => "warn",
        (0, "error" | "panic" | "fatal") => "error",
        (verbosity, _) => filter(verbosity),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match args.logging_format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(output.writer()).with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(output.writer())).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("a tracing subscriber is already installed");
    }
}
