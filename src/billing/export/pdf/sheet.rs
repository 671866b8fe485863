//! Pages being filled from top to bottom: what does not fit goes on the next one, under the heads of the table that it is in.

use super::text::{Face, Fonts, Line};

/// A4, in points.
pub(super) const WIDTH: f32 = 595.276;
pub(super) const HEIGHT: f32 = 841.89;
/// The text's edges.
pub(super) const LEFT: f32 = 56.0;
pub(super) const RIGHT: f32 = WIDTH - 56.0;
const TOP: f32 = 56.0;
/// Of pages after the first, under their head.
const TOP_NEXT: f32 = 84.0;
const BOTTOM: f32 = HEIGHT - 76.0;

/// A colour: red, green, blue.
pub(super) type Colour = (u8, u8, u8);
pub(super) const INK: Colour = (24, 28, 36);
pub(super) const GREY: Colour = (96, 104, 118);
pub(super) const PALE: Colour = (214, 219, 226);
pub(super) const WASH: Colour = (244, 246, 249);
pub(super) const ACCENT: Colour = (24, 74, 120);
pub(super) const ALARM: Colour = (178, 34, 34);

/// Something on a page.
pub(super) enum Mark {
    /// Text, from the left end of its baseline on.
    Text { x: f32, baseline: f32, line: Line, colour: Colour },
    /// A filled box: rules are thin ones.
    Fill { x: f32, y: f32, width: f32, height: f32, colour: Colour },
}

/// Where a column's text stands.
#[derive(Clone, Copy)]
pub(super) enum Align {
    /// From its left edge on.
    Left(f32),
    /// Up to its right edge.
    Right(f32),
}

impl Align {
    /// Where a line's left end comes to stand.
    pub(super) fn start(self, line: &Line) -> f32 {
        match self {
            Self::Left(x) => x,
            Self::Right(x) => x - line.width(),
        }
    }
}

/// What stands in one column of a row, line under line.
pub(super) struct Cell {
    pub(super) align: Align,
    pub(super) lines: Vec<Line>,
    pub(super) colour: Colour,
}

/// Cells side by side, `leading` from line to line.
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    pub(super) leading: f32,
}

/// The heads of a table: they stand on every page that it goes on to.
type Heads = Vec<(Align, String)>;

/// The pages so far.
pub(super) struct Sheet<'a> {
    pub(super) fonts: &'a Fonts,
    pub(super) pages: Vec<Vec<Mark>>,
    /// How far the last page is filled.
    pub(super) y: f32,
    heads: Heads,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(fonts: &'a Fonts) -> Self {
        Self { fonts, pages: vec![Vec::new()], y: TOP, heads: Vec::new() }
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(page) = self.pages.last_mut() {
            page.push(mark);
        }
    }

    /// A line of text, its baseline `drop` below where the page is filled to.
    pub(super) fn text(&mut self, align: Align, drop: f32, line: Line, colour: Colour) {
        let baseline = self.y + drop;
        self.mark(Mark::Text { x: align.start(&line), baseline, line, colour });
    }

    /// A horizontal rule.
    pub(super) fn rule(&mut self, from: f32, to: f32, thick: f32, colour: Colour) {
        let y = self.y;
        self.mark(Mark::Fill { x: from, y, width: to - from, height: thick, colour });
    }

    /// A box from where the page is filled to, `height` down.
    pub(super) fn fill(&mut self, from: f32, to: f32, height: f32, colour: Colour) {
        let y = self.y;
        self.mark(Mark::Fill { x: from, y, width: to - from, height, colour });
    }

    /// Makes sure that `height` fits, on the next page if it must be.
    pub(super) fn need(&mut self, height: f32) {
        if self.y + height > BOTTOM && self.y > TOP_NEXT + 60.0 {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.pages.push(Vec::new());
        self.y = TOP_NEXT;
        if !self.heads.is_empty() {
            self.print_heads();
        }
    }

    /// Begins a table: its heads now, and on each further page.
    pub(super) fn begin_table(&mut self, heads: Heads) {
        self.heads = heads;
        self.need(80.0);
        self.print_heads();
    }

    pub(super) fn end_table(&mut self) {
        self.heads.clear();
    }

    fn print_heads(&mut self) {
        for (align, name) in self.heads.clone() {
            let line = self.fonts.line(Face::Bold, 7.5, &name);
            self.text(align, 7.0, line, GREY);
        }
        self.y += 12.0;
        self.rule(LEFT, RIGHT, 0.8, INK);
        self.y += 5.0;
    }

    /// Rows that belong together: on one page if they fit on one, otherwise line by line.
    pub(super) fn rows(&mut self, rows: Vec<Row>) {
        let height: f32 = rows.iter().map(Row::height).sum();
        if height < BOTTOM - TOP_NEXT - 60.0 {
            self.need(height);
        }
        for row in rows {
            let (leading, count) = (row.leading, row.count());
            let mut columns: Vec<_> =
                row.cells.into_iter().map(|cell| (cell.align, cell.colour, cell.lines.into_iter())).collect();
            for _ in 0..count {
                self.need(leading);
                for (align, colour, lines) in &mut columns {
                    if let Some(line) = lines.next() {
                        self.text(*align, leading * 0.75, line, *colour);
                    }
                }
                self.y += leading;
            }
        }
    }
}

impl Row {
    fn count(&self) -> usize {
        self.cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(0)
    }

    fn height(&self) -> f32 {
        self.count() as f32 * self.leading
    }
}
