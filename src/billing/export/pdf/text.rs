//! Text on paper: shaped (ligatures, joined letters), measured, broken into lines, and put in the order in which it is read
//! (UAX 9).
//!
//! Nothing that somebody wrote is dropped: a character that the font lacks shows as �, and under it stands what was written, for
//! those who search or copy. Characters that would turn the text around them are shown as � too.

use std::collections::BTreeSet;

use anyhow::Context;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use rustybuzz::{Direction, UnicodeBuffer};
use unicode_bidi::{BidiInfo, Level};

/// Which font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// For reading.
    Regular,
    /// For headings and totals.
    Bold,
    /// For hashes.
    Mono,
}

/// The fonts, ready to shape and to be embedded.
pub(super) struct Fonts([Loaded; 3]);

struct Loaded {
    font: Font,
    shaper: rustybuzz::Face<'static>,
    /// The glyph of �, and its width in ems.
    replacement: (GlyphId, f32),
}

/// Glyphs of one direction, from left to right.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) glyphs: Vec<KrillaGlyph>,
    pub(super) text: String,
    /// Where it begins in the text that it is a part of.
    start: usize,
    /// In ems.
    width: f32,
}

/// One line of text, ready to be drawn.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) face: Face,
    pub(super) size: f32,
    pub(super) runs: Vec<Run>,
}

impl Run {
    pub(super) fn width(&self, size: f32) -> f32 {
        self.width * size
    }
}

impl Line {
    pub(super) fn width(&self) -> f32 {
        self.runs.iter().map(|run| run.width(self.size)).sum()
    }
}

impl Fonts {
    /// DejaVu, condensed: it has the letters of most alphabets, and digits of one width.
    pub(super) fn load() -> anyhow::Result<Self> {
        let files = [dejavu::sans_condensed::regular(), dejavu::sans_condensed::bold(), dejavu::sans_mono::regular()];
        let [regular, bold, mono] = files.map(Loaded::new);
        Ok(Self([regular?, bold?, mono?]))
    }

    fn of(&self, face: Face) -> &Loaded {
        let [regular, bold, mono] = &self.0;
        match face {
            Face::Regular => regular,
            Face::Bold => bold,
            Face::Mono => mono,
        }
    }

    /// To draw with.
    pub(super) fn font(&self, face: Face) -> Font {
        self.of(face).font.clone()
    }

    /// One line, however long.
    pub(super) fn line(&self, face: Face, size: f32, text: &str) -> Line {
        Line { face, size, runs: self.of(face).runs(&clean(text)) }
    }

    /// Lines of at most `width`, broken between words, and within those that are too long. None for a text of spaces.
    pub(super) fn wrap(&self, face: Face, size: f32, text: &str, width: f32) -> Vec<Line> {
        let (loaded, text) = (self.of(face), clean(text));
        let measure = |text: &str| loaded.runs(text).iter().map(|run| run.width(size)).sum::<f32>();
        let space = measure(" ");
        let mut lines: Vec<String> = Vec::new();
        // What the last line has left; less than nothing before the first.
        let mut left = -1.0;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            for (place, part) in loaded.parts(word, size, width).into_iter().enumerate() {
                let wide = measure(part);
                match lines.last_mut() {
                    Some(line) if place == 0 && space + wide <= left => {
                        line.push(' ');
                        line.push_str(part);
                        left -= space + wide;
                    }
                    _ => {
                        lines.push(part.to_owned());
                        left = width - wide;
                    }
                }
            }
        }
        lines.iter().map(|text| Line { face, size, runs: loaded.runs(text) }).collect()
    }

    /// One line that is made smaller until it fits, down to `least`; past that, several.
    pub(super) fn fit(&self, face: Face, size: f32, least: f32, text: &str, width: f32) -> Vec<Line> {
        let line = self.line(face, size, text);
        let wide = line.width();
        if wide <= width {
            return vec![line];
        }
        let smaller = size * width / wide;
        if smaller >= least { vec![Line { size: smaller, ..line }] } else { self.wrap(face, least, text, width) }
    }
}

impl Loaded {
    fn new(file: &'static [u8]) -> anyhow::Result<Self> {
        let shaper = rustybuzz::Face::from_slice(file, 0).context("the built-in font cannot be read")?;
        let font = Font::new(file.into(), 0).context("the built-in font cannot be read")?;
        let glyph = shaper.glyph_index('\u{fffd}').context("the built-in font has no replacement character")?;
        let width = shaper.glyph_hor_advance(glyph).map_or(1.0, f32::from) / font.units_per_em();
        Ok(Self { replacement: (GlyphId::new(u32::from(glyph.0)), width), font, shaper })
    }

    /// A text without line breaks, in the order in which it is drawn.
    fn runs(&self, text: &str) -> Vec<Run> {
        if text.is_ascii() {
            return vec![self.shape(text, 0, Direction::LeftToRight)];
        }
        // The document is in English: what is around somebody's text reads from left to right.
        let bidi = BidiInfo::new(text, Some(Level::ltr()));
        let mut runs = Vec::new();
        for paragraph in &bidi.paragraphs {
            let (levels, ranges) = bidi.visual_runs(paragraph, paragraph.range.clone());
            for range in ranges {
                let rtl = levels.get(range.start).is_some_and(Level::is_rtl);
                let direction = if rtl { Direction::RightToLeft } else { Direction::LeftToRight };
                let start = range.start;
                runs.push(self.shape(text.get(range).unwrap_or_default(), start, direction));
            }
        }
        runs
    }

    fn shape(&self, text: &str, start: usize, direction: Direction) -> Run {
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        buffer.guess_segment_properties();
        buffer.set_direction(direction);
        let shaped = rustybuzz::shape(&self.shaper, &[], buffer);
        // Where each cluster of letters begins; it ends where the next one does.
        let starts: BTreeSet<usize> = shaped.glyph_infos().iter().map(|info| info.cluster as usize).collect();
        let em = self.font.units_per_em();
        let glyphs: Vec<_> = shaped
            .glyph_infos()
            .iter()
            .zip(shaped.glyph_positions())
            .map(|(info, position)| {
                let start = info.cluster as usize;
                let end = starts.range(start + 1..).next().copied().unwrap_or(text.len());
                let (id, advance) = match info.glyph_id {
                    0 => self.replacement,
                    id => (GlyphId::new(id), position.x_advance as f32 / em),
                };
                let (x, y) = (position.x_offset as f32 / em, position.y_offset as f32 / em);
                KrillaGlyph::new(id, advance, x, y, 0.0, start..end, None)
            })
            .collect();
        Run { start, width: glyphs.iter().map(|glyph| glyph.x_advance).sum(), glyphs, text: text.to_owned() }
    }

    /// A word cut where it would be wider than a line: between clusters of letters.
    fn parts<'a>(&self, word: &'a str, size: f32, width: f32) -> Vec<&'a str> {
        let runs = self.runs(word);
        if runs.iter().map(|run| run.width(size)).sum::<f32>() <= width {
            return vec![word];
        }
        // In the order of the text, whatever the order on paper.
        let mut clusters: Vec<(usize, f32)> = Vec::new();
        for run in &runs {
            clusters.extend(run.glyphs.iter().map(|glyph| (run.start + glyph.text_range.start, glyph.x_advance * size)));
        }
        clusters.sort_by_key(|(start, _)| *start);
        let mut parts = Vec::new();
        let (mut begin, mut used) = (0, 0.0);
        for (start, advance) in clusters {
            if used + advance > width && start > begin && word.is_char_boundary(start) {
                parts.extend(word.get(begin..start));
                (begin, used) = (start, 0.0);
            }
            used += advance;
        }
        parts.extend(word.get(begin..));
        parts
    }
}

/// Spaces for what breaks lines; � for what cannot be seen and for what would turn the text around it (UAX 9, explicit
/// formatting).
fn clean(text: &str) -> String {
    let seen = |c: char| match c {
        c if c.is_whitespace() => ' ',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => '\u{fffd}',
        c if c.is_control() || (u32::from(c) & 0xfffe) == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(seen).collect()
}
