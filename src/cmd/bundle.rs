//! `kedge bundle`: one file for a machine without a network, made from this binary, a join file and image archives.

use super::join::endpoint;
use crate::base::{Exit, Failure, Output, Term};
use crate::config::join_file::JoinFile;
use crate::cri::Runtime;
use crate::host::bundle::{Bundle, Name, Part, Sources, pack};
use crate::pki::Token;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Pack the binary, images and a join file into one file for a machine without a network
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  kedge bundle -o edge-7.bundle --join-file edge-7.yaml --image pause.tar --image app.tar\n  kedge bundle --check edge-7.bundle\n\nOn the machine: tar xf edge-7.bundle kedge && ./kedge join --bundle edge-7.bundle"
)]
pub struct Args {
    /// The bundle to write
    #[arg(short, long = "output", value_name = "FILE", required_unless_present_any = ["check", "load"])]
    output: Option<PathBuf>,
    /// The join file, as `kedge token create --join-file` writes it
    #[arg(long, value_name = "FILE", required_unless_present_any = ["check", "load"])]
    join_file: Option<PathBuf>,
    /// An archive of images, as `docker save` and `ctr images export` write it; may be repeated
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// The kedge to pack; for machines of another architecture [default: this one]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Check a bundle and list its parts, and write none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "join_file", "images", "binary"])]
    check: Option<PathBuf>,
    /// Load the images of a bundle into this machine's container runtime
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "join_file", "images", "binary", "check"])]
    load: Option<PathBuf>,
    /// The container runtime that gets them
    #[arg(
        long,
        value_name = "URL",
        default_value = "unix:///run/containerd/containerd.sock",
        requires = "load"
    )]
    runtime_endpoint: String,
    /// Check everything that would be packed, and write nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t)]
    form: Output,
}

pub fn run(args: Args, term: &Term) -> Result<Exit, Failure> {
    if let Some(path) = &args.load {
        return load(path, &endpoint(args.runtime_endpoint)?, args.dry_run, term);
    }
    if let Some(path) = &args.check {
        let bundle = Bundle::open(path)?;
        let parts: Vec<Part> = bundle.parts().cloned().collect();
        let joined = JoinFile::parse(&bundle.join_file()?, "join.yaml")?.config;
        freshness(joined.token.reveal(), term)?;
        term.say(&format!("kedge {} for {}", bundle.version(), bundle.architecture()));
        show(path, &parts, args.form, term)?;
        return Ok(Exit::Done);
    }
    let (Some(output), Some(join_file)) = (args.output, args.join_file) else { return Ok(Exit::Usage) };
    let loaded = JoinFile::load(&join_file)?;
    for warning in &loaded.warnings {
        term.say(&format!("warning: {}: {warning}", join_file.display()));
    }
    freshness(loaded.config.token.reveal(), term)?;
    let own = || std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let sources = Sources { binary: args.binary.unwrap_or_else(own), join_file, images: args.images };
    let parts = pack(&sources, (!args.dry_run).then_some(output.as_path()))?;
    show(&output, &parts, args.form, term)?;
    term.say(if args.dry_run {
        "nothing was written"
    } else {
        "the bundle holds a join token: hand it to nobody but the machine that is to join"
    });
    Ok(Exit::Done)
}

fn load(path: &Path, endpoint: &str, dry_run: bool, term: &Term) -> Result<Exit, Failure> {
    let bundle = Bundle::open(path)?;
    let images = bundle.parts().filter(|part| matches!(part.name, Name::Image(_))).count();
    if images == 0 {
        term.say("the bundle holds no images; nothing to load");
        return Ok(Exit::Done);
    }
    if dry_run {
        term.say(&format!("would load {images} archives into {endpoint}"));
        return Ok(Exit::Done);
    }
    super::block_on(async { bundle.load_images(&Runtime::new(endpoint)).await })?;
    term.say(&format!("{images} archives of images are loaded into {endpoint}"));
    Ok(Exit::Done)
}

/// A bundle travels for a while: a token that has ended, or soon does, is told before it sets out.
fn freshness(token: &str, term: &Term) -> Result<(), Failure> {
    let Ok(token) = Token::parse(token) else { return Ok(()) };
    if token.has_expired() {
        return Err(Failure::new("KE-TOKEN-002", "the join token has expired")
            .because("the join file of the bundle holds it")
            .fix("make a new join file with `kedge token create --join-file`")
            .exit(Exit::Configuration));
    }
    let minutes = (token.expires - crate::base::now().as_second()).max(0) / 60;
    term.say(&format!("the join token is valid for {} h {:02} min more", minutes / 60, minutes % 60));
    Ok(())
}

fn show(path: &Path, parts: &[Part], form: Output, term: &Term) -> Result<(), Failure> {
    if form != Output::Text {
        let items: Vec<_> = parts
            .iter()
            .map(|part| {
                json!({"name": part.name.to_string(), "origin": part.origin, "bytes": part.size, "sha256": part.sha256})
            })
            .collect();
        let shown = json!({"apiVersion": "kedge.io/v1", "kind": "Bundle", "file": path.display().to_string(), "parts": items});
        return term.value(&shown, form);
    }
    let rows = parts.iter().map(|part| {
        vec![part.name.to_string(), part.size.to_string(), part.sha256.clone(), part.origin.clone()]
    });
    term.data(&super::edge_store::table(&["PART", "BYTES", "SHA-256", "FROM"], rows));
    Ok(())
}
