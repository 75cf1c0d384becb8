//! Aligned columns of text.

/// A table whose columns are as wide as their widest cell, two spaces apart.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    right: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A table with these headings. A heading that begins with `>` makes its column flush right.
    pub(super) fn new(headings: [&str; N]) -> Self {
        Self {
            right: headings.map(|heading| heading.starts_with('>')),
            rows: vec![headings.map(|heading| heading.trim_start_matches('>').to_owned())],
        }
    }

    /// Adds a line.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// The table as lines; `none` in its place when it has no line but the headings.
    pub(super) fn finish(self, none: &str) -> String {
        if self.rows.len() == 1 {
            return format!("{none}\n");
        }
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(widths).zip(self.right);
            let padded = cells.map(|((cell, width), right)| {
                if right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:width$}")
                }
            });
            let line = padded.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", ">COUNT", "WHY"]);
        table.row(["a".into(), "1".into(), "é — x".into()]);
        table.row(["longer".into(), "12345678".into(), String::new()]);
        let text = "\
NAME       COUNT  WHY
a              1  é — x
longer  12345678
";
        assert_eq!(table.finish("none"), text);
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new(["A"]).finish("no pods"), "no pods\n");
    }
}
