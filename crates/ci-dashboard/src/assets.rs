//! The style sheet, script and icon, embedded in the program, at addresses that contain a hash of their content.
//!
//! The content at a hashed address never changes, so clients cache it without revalidation.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use headers::{CacheControl, HeaderMapExt as _};

use crate::http::conditional::short_digest;
use crate::http::{Rendered, Response, content_type};

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
const OPENAPI: &str = include_str!("../assets/openapi.json");

static RENDERED: LazyLock<[Arc<Rendered>; 3]> =
    LazyLock::new(|| ASSETS.map(|asset| Arc::new(Rendered::new(asset.bytes))));

/// `style.css` as `style.0123456789abcdef01234567.css`.
static HASHED: LazyLock<[String; 3]> = LazyLock::new(|| {
    ASSETS.map(|asset| match asset.name.split_once('.') {
        Some((stem, ending)) => format!("{stem}.{}.{ending}", short_digest(asset.bytes)),
        None => asset.name.into(),
    })
});

/// The name of an asset, including its hash.
#[must_use]
pub fn hashed(name: &str) -> &'static str {
    ASSETS.iter().position(|asset| asset.name == name).map_or("", |at| HASHED[at].as_str())
}

/// The asset with a hashed name; `None` if the name belongs to another build.
#[must_use]
pub fn serve(name: &str) -> Option<Response> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let at = HASHED.iter().position(|hashed| hashed == name)?;
    let mut response = Response::rendered(ASSETS[at].content_type, Arc::clone(&RENDERED[at]));
    response.headers.typed_insert(CacheControl::new().with_public().with_max_age(YEAR).with_immutable());
    Some(response)
}

/// The description of the JSON views.
#[must_use]
pub fn openapi() -> Response {
    static RENDERED: LazyLock<Arc<Rendered>> = LazyLock::new(|| Arc::new(Rendered::new(OPENAPI.as_bytes())));
    Response::rendered(content_type::JSON, Arc::clone(&RENDERED))
}
