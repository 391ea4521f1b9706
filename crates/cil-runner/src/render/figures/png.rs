//! Figures as PNG files.
//!
//! A PNG is the SVG file, drawn by a library with a font that comes with the program.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb::Database};

use super::PaperFigure;

/// Pixels for a unit of the SVG file.
const ZOOM: f32 = 4.0;

impl PaperFigure {
    /// The PNG file.
    ///
    /// # Errors
    /// If the figure cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        let place = || format!("the figure {} cannot be drawn", self.name);
        let options =
            Options { fontdb: fonts(), font_family: "DejaVu Sans".to_owned(), ..Options::default() };
        let tree = Tree::from_str(&self.svg, &options).with_context(place)?;
        let pixels = |length: f32| (length * ZOOM).ceil() as u32;
        let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
        let mut picture = Pixmap::new(width, height).with_context(place)?;
        resvg::render(&tree, Transform::from_scale(ZOOM, ZOOM), &mut picture.as_mut());
        picture.encode_png().with_context(place)
    }
}

/// The fonts that figures are drawn with.
fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    };
    FONTS.get_or_init(load).clone()
}
