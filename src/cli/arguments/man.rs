//! Manual pages, made from the texts that help shows.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// A page for the program and for every verb that is shown: its file's name, and what is in it.
pub fn pages(program: &Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = program.clone();
    program.build();
    let mut pages = Vec::new();
    add(&program, &[], &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, above: &[&str], pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let path = [above, &[command.get_name()]].concat();
    pages.push((format!("{}.1", path.join("-")), page(command, &path)?));
    for verb in command.get_subcommands().filter(|verb| is_page(verb)) {
        add(verb, &path, pages)?;
    }
    Ok(())
}

fn is_page(verb: &Command) -> bool {
    !verb.is_hide_set() && verb.get_name() != "help"
}

fn page(command: &Command, path: &[&str]) -> io::Result<Vec<u8>> {
    let help = Help::of(&command.get_long_about().map(ToString::to_string).unwrap_or_default());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut out = Vec::new();
    let man = Man::new(Command::new(path.join("-")).version(env!("CARGO_PKG_VERSION")));
    man.render_title(&mut out)?;
    section(&mut out, "NAME", &format!("{} \\- {}\n", escaped(&path.join("-")), escaped(&about)));
    section(&mut out, "SYNOPSIS", &synopsis(command, path));
    if !help.description.is_empty() {
        section(&mut out, "DESCRIPTION", &text(&help.description));
    }
    let own = |positional: bool| {
        // The others are hidden, not left out: arguments know of one another.
        command.clone().mut_args(|arg| match arg.is_positional() == positional {
            true => arg,
            false => arg.hide(true),
        })
    };
    if command.get_positionals().next().is_some() {
        rendered(&mut out, "ARGUMENTS", own(true))?;
    }
    rendered(&mut out, "OPTIONS", own(false))?;
    let verbs: Vec<&Command> = command.get_subcommands().filter(|verb| is_page(verb)).collect();
    if !verbs.is_empty() {
        let name = |verb: &Command| escaped(&format!("{}-{}", path.join("-"), verb.get_name()));
        let about = |verb: &Command| escaped(&verb.get_about().map(ToString::to_string).unwrap_or_default());
        let list = verbs.iter().map(|verb| format!(".TP\n\\fB{}\\fR(1)\n{}\n", name(verb), about(verb)));
        section(&mut out, "COMMANDS", &list.collect::<String>());
    }
    let exit = match help.exit_codes.is_empty() {
        true => {
            "0 done; 1 refused, or a mistake; 2 wrong usage; 3 the host lacks something; 70 a bug; \
                 130 interrupted."
        }
        false => &help.exit_codes,
    };
    section(&mut out, "EXIT STATUS", &format!("{}\n", escaped(exit)));
    if !help.environment.is_empty() {
        section(&mut out, "ENVIRONMENT", &kept(&help.environment));
        section(&mut out, "FILES", FILES);
    }
    section(&mut out, "EXAMPLES", &kept(&help.examples));
    section(&mut out, "SEE ALSO", &see_also(command, path));
    Ok(out)
}

const FILES: &str = ".TP\n/var/lib/nagaya\nThe system's containers, templates and database.\n\
    .TP\n/var/lib/nagaya\\-users\nThose of ordinary users, a directory for each uid.\n\
    .TP\n/etc/nagaya/grants.d\nWhat users may have; see \\fBnagaya\\-grant\\fR(1).\n\
    .TP\n/etc/nagaya/templates\nRecipes of templates, besides those that are built in.\n";

/// A verb's help, taken apart.
#[derive(Default)]
struct Help {
    description: Vec<String>,
    examples: Vec<String>,
    environment: Vec<String>,
    exit_codes: String,
}

impl Help {
    fn of(text: &str) -> Self {
        let mut help = Self::default();
        // The first line is the page's name already.
        for paragraph in text.split("\n\n").skip(1) {
            let lines = || paragraph.lines().map(str::to_owned);
            match paragraph.lines().next().unwrap_or_default() {
                "Examples:" => help.examples.extend(lines().skip(1)),
                "Environment:" => help.environment.extend(lines().skip(1)),
                first if first.starts_with("Exit codes: ") => {
                    help.exit_codes = paragraph.replace('\n', " ").split_off("Exit codes: ".len());
                }
                _ => {
                    let gap = (!help.description.is_empty()).then(String::new);
                    help.description.extend(gap.into_iter().chain(lines()));
                }
            }
        }
        help
    }
}

/// The usage line, in which the program's own page says what its option takes.
fn synopsis(command: &Command, path: &[&str]) -> String {
    let usage = command.clone().bin_name(path.join(" ")).render_usage().to_string();
    let line = usage.trim_start_matches("Usage: ").replace('\n', " ");
    let line = if path.len() == 1 { line.replace("[OPTIONS]", "[--owner <USER>]") } else { line };
    let name = path.join(" ");
    format!("\\fB{}\\fR{}\n", escaped(&name), escaped(line.strip_prefix(&name).unwrap_or(&line)))
}

/// What clap_mangen makes of arguments, under another title.
fn rendered(out: &mut Vec<u8>, title: &str, args: Command) -> io::Result<()> {
    let mut text = Vec::new();
    Man::new(args).render_options_section(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace(".SH OPTIONS", &format!(".SH {title}"));
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn see_also(command: &Command, path: &[&str]) -> String {
    let above = (1..path.len()).map(|length| path[..length].join("-"));
    let below = command.get_subcommands().filter(|verb| is_page(verb));
    let below = below.map(|verb| format!("{}-{}", path.join("-"), verb.get_name()));
    let mut all: Vec<String> = above.chain(below).collect();
    if let ["nagaya", "network" | "firewall", ..] | ["nagaya", "device" | "forward", ..] = path {
        all.push("nagaya-network".to_owned());
        all.push("nagaya-firewall".to_owned());
    }
    all.retain(|name| *name != path.join("-"));
    all.dedup();
    let pages: Vec<String> = all.iter().map(|name| format!("\\fB{}\\fR(1)", escaped(name))).collect();
    format!("{}\n.PP\n/usr/share/doc/nagaya\n", pages.join(",\n"))
}

fn section(out: &mut Vec<u8>, title: &str, text: &str) {
    out.extend_from_slice(format!(".SH {title}\n{text}").as_bytes());
}

/// Paragraphs are filled; indented lines stay as they are.
fn text(lines: &[String]) -> String {
    let mut out = String::new();
    let mut is_kept = false;
    for line in lines {
        if is_kept != line.starts_with("  ") {
            is_kept = !is_kept;
            out.push_str(if is_kept { ".nf\n" } else { ".fi\n" });
        }
        out.push_str(&if line.is_empty() { ".PP".to_owned() } else { escaped(line) });
        out.push('\n');
    }
    if is_kept {
        out.push_str(".fi\n");
    }
    out
}

fn kept(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| escaped(line.strip_prefix("  ").unwrap_or(line)) + "\n");
    format!(".nf\n{}.fi\n", lines.collect::<String>())
}

/// Escapes what roff would interpret.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn page(name: &str) -> String {
        let pages = pages(&crate::cli::command::Cli::command()).unwrap();
        let found = pages.into_iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}"));
        String::from_utf8(found.1).unwrap()
    }

    #[test]
    fn a_page_has_the_usual_sections_in_the_usual_order() {
        let titles = |name: &str| -> Vec<String> {
            let page = page(name);
            page.lines().filter_map(|line| line.strip_prefix(".SH ")).map(str::to_owned).collect()
        };
        let wanted =
            "NAME SYNOPSIS DESCRIPTION OPTIONS COMMANDS EXIT_STATUS ENVIRONMENT FILES EXAMPLES SEE_ALSO";
        assert_eq!(titles("nagaya.1").join(" "), wanted.replace('_', " "));
        let wanted = "NAME SYNOPSIS DESCRIPTION ARGUMENTS OPTIONS EXIT_STATUS EXAMPLES SEE_ALSO";
        assert_eq!(titles("nagaya-stop.1").join(" "), wanted.replace('_', " "));
        assert!(page("nagaya-watch.1").contains(".SH SYNOPSIS"));
    }

    #[test]
    fn tables_are_not_filled_and_values_are_named() {
        let page = page("nagaya.1");
        let environment = page.split(".SH ENVIRONMENT\n").nth(1).unwrap();
        assert!(environment.starts_with(".nf\nNAGAYA_INSTANCE "), "{environment}");
        assert!(page.contains("\n\\fBnagaya\\fR [\\-\\-owner <USER>] <COMMAND>\n"), "{page}");
        assert!(page.contains("\\fBnagaya\\-exec\\fR(1)"));
        assert_eq!(page.matches("Long\\-lived").count(), 1);
    }
}
