//! Filled pages become a file: each gets its head and foot, a stamp across it when it is no invoice to be paid, and the file its
//! title, its date and the JSON that it shows.

use anyhow::anyhow;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use krilla::color::rgb;
use krilla::configure::{Archival, ConfigurationBuilder};
use krilla::embed::{AssociationKind, EmbeddedFile, MimeType};
use krilla::geom::{PathBuilder, Point, Rect, Transform};
use krilla::metadata::{DateTime, Metadata};
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::{Document, SerializeSettings};

use super::sheet::{ALARM, Align, Colour, GREY, HEIGHT, LEFT, Mark, PALE, RIGHT, WIDTH};
use super::text::{Face, Fonts, Line};

/// What stands around the pages.
pub(super) struct Frame<'a> {
    /// `Invoice INV-2026-000012`.
    pub(super) title: String,
    /// Who sells.
    pub(super) seller: &'a str,
    /// Who buys.
    pub(super) buyer: &'a str,
    /// `DRAFT` or `VOID`, with what that means.
    pub(super) stamp: Option<(&'static str, &'static str)>,
    /// When the document was made, RFC 3339.
    pub(super) dated: &'a str,
    /// The name of the JSON file.
    pub(super) file: String,
    /// What was hashed,
    pub(super) body: &'a str,
    /// and its hash.
    pub(super) sha256: &'a str,
}

/// The file.
pub(super) fn finish(fonts: &Fonts, pages: Vec<Vec<Mark>>, frame: &Frame<'_>) -> anyhow::Result<Vec<u8>> {
    let date = date(frame.dated);
    let mut settings = SerializeSettings::default();
    let mut archive = ConfigurationBuilder::new();
    // An archive wants a date; whoever has none gets a plain PDF.
    if date.is_some() {
        archive = archive.with_archival_validator(Archival::A3_B);
    }
    settings.configuration = archive.finish().map_err(|error| anyhow!("{error:?}"))?;
    let mut document = Document::new_with(settings);
    document.set_metadata(metadata(frame, date));
    let json = EmbeddedFile {
        path: frame.file.clone(),
        mime_type: MimeType::new("application/json"),
        description: Some(format!("What this document shows, as it was hashed: SHA-256 {}", frame.sha256)),
        association_kind: AssociationKind::Source,
        data: frame.body.as_bytes().to_vec().into(),
        modification_date: date,
        compress: None,
        location: None,
    };
    document.embed_file(json).ok_or_else(|| anyhow!("the document's JSON cannot be attached"))?;
    let count = pages.len();
    for (place, marks) in pages.iter().enumerate() {
        let size = PageSettings::from_wh(WIDTH, HEIGHT).ok_or_else(|| anyhow!("no page of that size"))?;
        let mut page = document.start_page_with(size);
        let mut surface = page.surface();
        if let Some((stamp, _)) = frame.stamp {
            watermark(&mut surface, fonts, stamp);
        }
        for mark in marks {
            put(&mut surface, fonts, mark);
        }
        for mark in around(fonts, frame, place, count) {
            put(&mut surface, fonts, &mark);
        }
        surface.finish();
        page.finish();
    }
    document.finish().map_err(|error| anyhow!("the PDF cannot be written: {error:?}"))
}

fn metadata(frame: &Frame<'_>, date: Option<DateTime>) -> Metadata {
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let metadata = Metadata::new()
        .title(plain(&frame.title))
        .authors(vec![plain(frame.seller)])
        .creator("Tollgate".to_owned())
        .language("en".to_owned())
        .document_id(frame.sha256.to_owned());
    match date {
        Some(date) => metadata.creation_date(date),
        None => metadata,
    }
}

fn date(instant: &str) -> Option<DateTime> {
    let at = instant.parse::<Timestamp>().ok()?.to_zoned(TimeZone::UTC);
    let part = |value: i8| u8::try_from(value).unwrap_or(0);
    let date = DateTime::new(u16::try_from(at.year()).ok()?).month(part(at.month())).day(part(at.day()));
    let date = date.hour(part(at.hour())).minute(part(at.minute())).second(part(at.second()));
    Some(date.utc_offset_hour(0).utc_offset_minute(0))
}

/// Head and foot of a page.
fn around(fonts: &Fonts, frame: &Frame<'_>, place: usize, count: usize) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut text = |align: Align, baseline, line: Line, colour| {
        marks.push(Mark::Text { x: align.start(&line), baseline, line, colour });
    };
    let small = |face, text: &str, width| fonts.wrap(face, 7.5, text, width).into_iter().next();
    let half = (RIGHT - LEFT) / 2.0;
    if place > 0 {
        if let Some(line) = small(Face::Bold, &frame.title, half) {
            text(Align::Left(LEFT), 52.0, line, GREY);
        }
        if let Some(line) = small(Face::Regular, frame.buyer, half) {
            text(Align::Right(RIGHT), 52.0, line, GREY);
        }
    }
    if let Some((stamp, meaning)) = frame.stamp {
        let line = fonts.line(Face::Bold, 8.5, &format!("{stamp}: {meaning}"));
        text(Align::Left(LEFT), 38.0, line, ALARM);
    }
    let foot = HEIGHT - 44.0;
    if let Some(line) = small(Face::Regular, &format!("{} · {}", frame.title, frame.seller), RIGHT - LEFT - 80.0) {
        text(Align::Left(LEFT), foot, line, GREY);
    }
    text(Align::Right(RIGHT), foot, fonts.line(Face::Regular, 7.5, &format!("Page {} of {count}", place + 1)), GREY);
    let rule = |y| Mark::Fill { x: LEFT, y, width: RIGHT - LEFT, height: 0.5, colour: PALE };
    marks.push(rule(foot - 13.0));
    if place > 0 {
        marks.push(rule(60.0));
    }
    marks
}

fn colour((red, green, blue): Colour) -> Option<Fill> {
    Some(Fill { paint: rgb::Color::new(red, green, blue).into(), opacity: NormalizedF32::ONE, rule: Default::default() })
}

fn put(surface: &mut Surface<'_>, fonts: &Fonts, mark: &Mark) {
    match mark {
        Mark::Text { x, baseline, line, colour: of } => {
            surface.set_fill(colour(*of));
            let mut x = *x;
            for run in &line.runs {
                if !run.glyphs.is_empty() {
                    let at = Point::from_xy(x, *baseline);
                    surface.draw_glyphs(at, &run.glyphs, fonts.font(line.face), &run.text, line.size, false);
                }
                x += run.width(line.size);
            }
        }
        Mark::Fill { x, y, width, height, colour: of } => {
            let mut path = PathBuilder::new();
            if let Some(rect) = Rect::from_xywh(*x, *y, *width, *height) {
                path.push_rect(rect);
            }
            if let Some(path) = path.finish() {
                surface.set_fill(colour(*of));
                surface.draw_path(&path);
            }
        }
    }
}

/// Across the page, behind its text; as shapes, so that it does not stand in the way of whoever copies the text.
fn watermark(surface: &mut Surface<'_>, fonts: &Fonts, stamp: &str) {
    let line = fonts.line(Face::Bold, 150.0, stamp);
    surface.push_transform(&Transform::from_rotate_at(-52.0, WIDTH / 2.0, HEIGHT / 2.0));
    surface.set_fill(colour((250, 232, 232)));
    let mut x = (WIDTH - line.width()) / 2.0;
    for run in &line.runs {
        surface.draw_glyphs(
            Point::from_xy(x, HEIGHT / 2.0 + 55.0),
            &run.glyphs,
            fonts.font(line.face),
            &run.text,
            line.size,
            true,
        );
        x += run.width(line.size);
    }
    surface.pop();
}
