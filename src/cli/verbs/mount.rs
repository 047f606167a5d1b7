use std::ffi::OsString;
use std::path::PathBuf;

use crate::app::files::repair;
use crate::cli::error::CliResult;

/// Open a shell in which a directory shows the files of a stopped container
///
/// For the repair of one that does not start: the shell and all that is started from it see the
/// container's files at DIR, and nobody else on the host does. It is the host's shell, with the rights
/// of the containers' root and no others: it can change the container's files, and of the host's it can
/// change nothing. When it ends, the container can be started again. COMMAND runs in place of the
/// shell.
///
/// Others must be able to enter DIR. Symbolic links in the container lead to the host's files here,
/// which can be read that way if everybody may read them; 'nagaya file' follows them in the container.
/// Do not run programs of the container.
///
/// Examples:
///   nagaya mount web01 /mnt
///   nagaya mount web01 /mnt -- sed -i '/broken/d' etc/fstab
#[derive(clap::Args)]
#[command(verbatim_doc_comment, override_usage = "nagaya mount <NAME> <DIR> [-- <COMMAND>...]")]
pub struct MountArgs {
    /// The container
    name: String,
    /// A directory of the host's
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    dir: PathBuf,
    /// Run this program with these arguments
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

pub fn run(args: &MountArgs) -> CliResult<i32> {
    let name = crate::cli::name(&args.name)?;
    Ok(repair::run(&mut crate::cli::open()?, &name, &args.dir, &args.command)?)
}
