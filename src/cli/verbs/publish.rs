use crate::api::snapshots::Publish;
use crate::cli::error::{CliResult, DONE};
use crate::cli::output::print;
use crate::cli::request::ask;
use crate::model::snapshot::Source;

/// Make a template of a container
///
/// Or of one of its snapshots. The template is one tree that containers can be launched from. All that
/// is in the container is in it: remove host keys, passwords and logs first. A running container is
/// copied as 'nagaya snapshot create' does it.
///
/// Examples:
///   nagaya publish web01 --as web
///   nagaya publish web01/golden --as web --replace
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct PublishArgs {
    /// The container, or one of its snapshots
    #[arg(value_name = "NAME[/SNAPSHOT]", value_parser = Source::new)]
    source: Source,
    /// The template's name
    #[arg(long = "as", visible_alias = "alias", value_name = "TEMPLATE")]
    template: String,
    /// The name may stand for another template, which containers that were made from it keep
    #[arg(long)]
    replace: bool,
}

pub fn run(args: PublishArgs) -> CliResult<i32> {
    let request = Publish { source: args.source, template: args.template, replace: args.replace };
    let template = ask(&mut crate::cli::open()?, request)?;
    print(&super::template::made(&template))?;
    Ok(DONE)
}
