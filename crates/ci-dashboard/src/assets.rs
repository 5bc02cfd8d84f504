//! The style sheet, script and icon, inside the program, under addresses that name their content.
//!
//! A hashed address never changes its meaning, so clients may keep it for ever.

use std::sync::{Arc, LazyLock};

use http::header::{self, HeaderValue};

use crate::conditional::Validators;
use crate::rendered::Rendered;
use crate::response::{Response, kind};

struct Asset {
    /// `style.css`
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/style.css"),
    },
    Asset {
        name: "script.js",
        content_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/script.js"),
    },
    Asset { name: "icon.svg", content_type: "image/svg+xml", bytes: include_bytes!("../assets/icon.svg") },
];

/// The description of the JSON views.
pub const OPENAPI: &str = include_str!("../assets/openapi.json");

/// Compressed once, when the first client takes them so.
static RENDERED: LazyLock<[Arc<Rendered>; 3]> =
    LazyLock::new(|| ASSETS.map(|asset| Arc::new(Rendered::new(asset.bytes))));

/// `style.css` as `style.0123456789ab.css`.
static HASHED: LazyLock<[String; 3]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let tag = Validators::of_bytes(asset.bytes).etag.unwrap_or_default();
        let hash: String = tag.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        match asset.name.split_once('.') {
            Some((stem, ending)) => format!("{stem}.{hash}.{ending}"),
            None => asset.name.into(),
        }
    })
});

/// The name of an asset with its hash.
#[must_use]
pub fn hashed(name: &str) -> &'static str {
    ASSETS.iter().position(|asset| asset.name == name).map_or("", |at| HASHED[at].as_str())
}

/// The asset under a hashed name; one of another build is not found.
#[must_use]
pub fn serve(name: &str) -> Option<Response> {
    let at = HASHED.iter().position(|hashed| hashed == name)?;
    let mut response = Response::rendered(ASSETS[at].content_type, Arc::clone(&RENDERED[at]));
    response
        .headers
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Some(response)
}

/// The description of the JSON views, as it is.
#[must_use]
pub fn openapi() -> Response {
    static RENDERED: LazyLock<Arc<Rendered>> = LazyLock::new(|| Arc::new(Rendered::new(OPENAPI.as_bytes())));
    Response::rendered(kind::JSON, Arc::clone(&RENDERED))
}
