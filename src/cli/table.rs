//! Rows as aligned columns and as comma-separated values.

use super::output::{Colour, coloured};
use super::text;

/// A column's name: for people `NAME`, for programs `name`.
pub struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
    paint: Option<Paint>,
}

/// Which column is coloured, and how. Those left of it hold ASCII only.
struct Paint {
    column: usize,
    colour: fn(&str) -> Option<Colour>,
}

impl Table {
    /// `columns` are in lower case, words joined by `_`.
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new(), paint: None }
    }

    /// Colours a column by its text, where the output takes colours.
    pub fn paint(mut self, column: usize, colour: fn(&str) -> Option<Colour>) -> Self {
        self.paint = Some(Paint { column, colour });
        self
    }

    /// As many cells as there are columns; any text, which is made harmless here.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|c| text::line(c)).collect());
    }

    /// For standard output.
    pub fn text(&self) -> String {
        self.render(coloured(&std::io::stdout()))
    }

    fn render(&self, colours: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(self.columns.iter().map(|c| c.replace('_', " ").to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| if cell.is_empty() { "-" } else { cell.as_str() }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let paint = self.paint.as_ref().filter(|_| colours);
        let offset = paint.map(|p| {
            let widths = table.column_max_content_widths();
            widths.iter().take(p.column).map(|w| usize::from(*w) + 3).sum::<usize>()
        });
        let mut out = String::new();
        for (number, line) in table.lines().enumerate() {
            let line = line.trim_end();
            let row = number.checked_sub(1).and_then(|n| self.rows.get(n));
            match (paint, offset, row) {
                (Some(paint), Some(offset), Some(row)) => out.push_str(&paint.line(line, offset, row)),
                _ => out.push_str(line),
            }
            out.push('\n');
        }
        out
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
    fn line(&self, line: &str, offset: usize, row: &[String]) -> String {
        let painted = row.get(self.column).and_then(|word| {
            let (before, rest) = line.split_at_checked(offset)?;
            let after = rest.strip_prefix(word.as_str())?;
            Some(format!("{before}{}{after}", (self.colour)(word)?.paint(word)))
        });
        painted.unwrap_or_else(|| line.to_owned())
    }
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
            sample().render(false),
            "NAME                 STATE     CREATED AT\n\
             web01                running   say \"hi\", twice\n\
             a-much-longer-name   stopped   -\n"
        );
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let paint = |word: &str| (word == "running").then_some(Colour::Green);
        let text = sample().paint(1, paint).render(true);
        assert!(text.contains("\x1b[32mrunning\x1b[0m   say"), "{text:?}");
        assert_eq!(text.replace("\x1b[32m", "").replace("\x1b[0m", ""), sample().render(false));
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
        assert_eq!(table.render(false), "OS\nEvil root Linux\n");
        assert_eq!(table.csv(), "os\nEvil root Linux\n");
    }

    #[test]
    fn pairs_are_aligned() {
        let text = pairs(&[("Name", "web01".into()), ("Template", "a\nb".into())]);
        assert_eq!(text, "Name:     web01\nTemplate: a b\n");
    }
}
