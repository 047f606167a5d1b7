//! Rows as aligned columns and as comma-separated values.

use super::colour::{Colour, coloured};
use super::text;
use crate::cli::terminal;

/// A column's name: `NAME` in a table, `name` in CSV.
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    paint: Option<Paint>,
    /// Columns that a narrow terminal leaves out, the first one first.
    optional: &'static [&'static str],
}

/// Which column is coloured, and how. Those left of it hold ASCII only.
struct Paint {
    column: usize,
    colour: fn(&str) -> Option<Colour>,
}

/// Between two columns, and where there is little room.
const GAP: usize = 3;
const NARROW_GAP: usize = 2;

impl Table {
    /// `columns` are in lower case, words joined by `_`.
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Self {
        let columns = columns.iter().map(|column| column.as_ref().to_owned()).collect();
        Self { columns, rows: Vec::new(), paint: None, optional: &[] }
    }

    /// Colours a column by its text, where the output takes colours.
    pub fn paint(mut self, column: usize, colour: fn(&str) -> Option<Colour>) -> Self {
        self.paint = Some(Paint { column, colour });
        self
    }

    /// Sets which columns a narrow terminal leaves out.
    pub fn optional(mut self, columns: &'static [&'static str]) -> Self {
        self.optional = columns;
        self
    }

    /// As many cells as there are columns; any text, which is made harmless here.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|c| text::line(c)).collect());
    }

    /// The table for standard output: no wider than its terminal, and complete if it is none.
    pub fn text(&self) -> String {
        self.render(coloured(&std::io::stdout()), terminal::width())
    }

    /// All of it, however wide.
    pub fn wide(&self) -> String {
        self.render(coloured(&std::io::stdout()), None)
    }

    fn render(&self, colours: bool, room: Option<usize>) -> String {
        let (shown, gap) = self.fitting(room);
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(shown.iter().map(|at| heading(&self.columns[*at])));
        for row in &self.rows {
            table.add_row(shown.iter().map(|at| filled(&row[*at])));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, gap as u16));
        }
        if let Some(room) = room.filter(|room| self.width(&shown, gap) > *room) {
            // The widest columns are broken into lines.
            table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
            // The gap behind the last column is not printed.
            table.set_width((room + gap).try_into().unwrap_or(u16::MAX));
        }
        let paint = self.paint.as_ref().filter(|_| colours);
        let offset = paint.and_then(|p| {
            let title = heading(&self.columns[p.column]);
            table.lines().next().and_then(|line| line.find(&title))
        });
        let mut out = String::new();
        for line in table.lines() {
            let line = line.trim_end();
            match (paint, offset) {
                (Some(paint), Some(offset)) => out.push_str(&paint.line(line, offset)),
                _ => out.push_str(line),
            }
            out.push('\n');
        }
        out
    }

    /// The columns that there is room for, and what is between two of them.
    fn fitting(&self, room: Option<usize>) -> (Vec<usize>, usize) {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let Some(room) = room.filter(|room| self.width(&shown, GAP) > *room) else { return (shown, GAP) };
        for optional in self.optional {
            if self.width(&shown, NARROW_GAP) <= room {
                break;
            }
            shown.retain(|at| self.columns[*at] != *optional);
        }
        (shown, NARROW_GAP)
    }

    /// Of the longest line.
    fn width(&self, shown: &[usize], gap: usize) -> usize {
        let cells = |at: &usize| {
            let title = self.columns[*at].chars().count();
            let longest = self.rows.iter().map(|row| filled(&row[*at]).chars().count()).max();
            title.max(longest.unwrap_or(0))
        };
        shown.iter().map(cells).sum::<usize>() + gap * shown.len().saturating_sub(1)
    }

    /// RFC 4180, but for line ends: those are what the host's own tools expect.
    pub fn csv(&self) -> String {
        let mut out = self.columns.join(",");
        out.push('\n');
        for row in &self.rows {
            let fields: Vec<_> = row.iter().map(|cell| field(cell)).collect();
            out.push_str(&fields.join(","));
            out.push('\n');
        }
        out
    }
}

impl Paint {
    fn line(&self, line: &str, offset: usize) -> String {
        let painted = line.split_at_checked(offset).and_then(|(before, rest)| {
            let word = rest.split_whitespace().next().filter(|word| rest.starts_with(word))?;
            Some(format!("{before}{}{}", (self.colour)(word)?.paint(word), &rest[word.len()..]))
        });
        painted.unwrap_or_else(|| line.to_owned())
    }
}

fn heading(column: &str) -> String {
    column.replace('_', " ").to_uppercase()
}

fn filled(cell: &str) -> &str {
    if cell.is_empty() { "-" } else { cell }
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Names and values, one pair a line. Values are made harmless.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let name = format!("{name}:");
        format!("{name:width$} {}\n", text::line(value))
    };
    pairs.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&["name", "state", "created_at"]);
        table.row(vec!["web01".into(), "running".into(), "say \"hi\", twice".into()]);
        table.row(vec!["a-much-longer-name".into(), "stopped".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_empty_cells_seen() {
        assert_eq!(
            sample().render(false, None),
            "NAME                 STATE     CREATED AT\n\
             web01                running   say \"hi\", twice\n\
             a-much-longer-name   stopped   -\n"
        );
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let paint = |word: &str| (word == "running").then_some(Colour::Green);
        let text = sample().paint(1, paint).render(true, None);
        assert!(text.contains("\x1b[32mrunning\x1b[0m   say"), "{text:?}");
        assert_eq!(text.replace("\x1b[32m", "").replace("\x1b[0m", ""), sample().render(false, None));
    }

    /// A list of containers with addresses of both kinds.
    fn list() -> Table {
        let columns = ["name", "state", "ipv4", "ipv6", "template", "created"];
        let mut table = Table::new(&columns).optional(&["created", "template", "ipv6"]);
        for name in ["web01", "database-of-the-shop"] {
            let cells =
                [name, "running", "10.219.48.10", "fd42:8a1c:33d0:7e2f::10 +2", "debian12", "3 weeks ago"];
            table.row(cells.map(str::to_owned).to_vec());
        }
        table
    }

    #[test]
    fn a_terminal_is_never_too_narrow() {
        for room in [20, 40, 60, 80, 100, 120, 200] {
            let text = list().render(false, Some(room));
            assert!(text.lines().all(|line| line.chars().count() <= room), "{room}:\n{text}");
        }
        assert_eq!(list().render(false, Some(200)), list().render(false, None));
    }

    #[test]
    fn columns_go_in_their_order() {
        let text = list().render(false, Some(80));
        assert!(text.starts_with("NAME                  STATE    IPV4          IPV6\n"), "{text}");
        let text = list().render(false, Some(48));
        assert_eq!(text.lines().nth(2), Some("database-of-the-shop  running  10.219.48.10"));
        assert!(list().render(false, Some(105)).contains("CREATED"));
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        let mut table =
            Table::new(&["status", "detail"]).paint(0, |word| (word == "ok").then_some(Colour::Green));
        table.row(vec!["ok".into(), "one two three four five six".into()]);
        assert_eq!(
            table.render(false, Some(20)),
            "STATUS  DETAIL\nok      one two\n        three four\n        five six\n"
        );
        assert!(table.render(true, Some(20)).contains("\x1b[32mok\x1b[0m      one two\n        three"));
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(
            sample().csv(),
            "name,state,created_at\nweb01,running,\"say \"\"hi\"\", twice\"\na-much-longer-name,stopped,\n"
        );
        assert_eq!(field(" x"), "\" x\"");
    }

    #[test]
    fn cells_cannot_break_out_of_their_row() {
        let mut table = Table::new(&["os"]);
        table.row(vec!["Evil\nroot \x1b[2JLinux".into()]);
        assert_eq!(table.render(false, None), "OS\nEvil root Linux\n");
        assert_eq!(table.csv(), "os\nEvil root Linux\n");
    }

    #[test]
    fn pairs_are_aligned() {
        let text = pairs(&[("Name", "web01".into()), ("Template", "a\nb".into())]);
        assert_eq!(text, "Name:     web01\nTemplate: a b\n");
    }
}
